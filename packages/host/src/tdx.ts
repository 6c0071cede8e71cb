/**
 * Can this host start a trust domain? One check for each thing that a TD needs, each with the reason and the remedy,
 * so that whoever sets up a host sees everything that is missing at once. Nothing here is a security decision.
 */
import { constants } from "node:fs";
import { access, readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { start } from "./child.ts";

export interface Prerequisite {
  name: string;
  ok: boolean;
  /** What was found. */
  found: string;
  /** What to do when it is missing. */
  fix: string;
}

const leastQemu = [10, 1];

async function contents(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").then(
    (value) => value.trim(),
    () => undefined,
  );
}

async function usable(path: string): Promise<boolean> {
  return access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** Version of a QEMU binary as [major, minor]; undefined when it does not run or says something else. */
async function qemuVersion(program: string): Promise<number[] | undefined> {
  try {
    const child = await start(program, ["--version"], "qemu-system-x86");
    const found = /version (\d+)\.(\d+)/.exec(await text(child.stdout!));
    return found === null ? undefined : found.slice(1).map(Number);
  } catch {
    return undefined;
  }
}

/** Everything that a host must have to start a TD, in the order in which one would set it up. */
export async function tdxPrerequisites(qemu = "qemu-system-x86_64"): Promise<Prerequisite[]> {
  const cpu = (await contents("/proc/cpuinfo")) ?? "";
  const tdx = await contents("/sys/module/kvm_intel/parameters/tdx");
  const version = await qemuVersion(qemu);
  const enough =
    version !== undefined &&
    (version[0]! > leastQemu[0]! || (version[0] === leastQemu[0] && version[1]! >= leastQemu[1]!));
  return [
    {
      name: "processor",
      ok: /\btdx_host_platform\b/.test(cpu),
      found: /^model name\s*:\s*(.*)$/m.exec(cpu)?.[1] ?? "unknown",
      fix: "a processor with TDX, with TDX switched on in its firmware, and a host kernel of 6.16 or newer that sees it",
    },
    {
      name: "kvm",
      ok: await usable("/dev/kvm"),
      found: (await usable("/dev/kvm")) ? "/dev/kvm can be opened" : "/dev/kvm cannot be opened",
      fix: "load kvm_intel and join the group kvm",
    },
    {
      name: "kvm_intel.tdx",
      ok: tdx === "Y" || tdx === "1",
      found: tdx === undefined ? "no such parameter" : tdx,
      fix: "load kvm_intel with tdx=1 on a kernel built with CONFIG_KVM_INTEL_TDX",
    },
    {
      name: "qemu",
      ok: enough,
      found: version === undefined ? "not found" : version.join("."),
      fix: `QEMU ${leastQemu.join(".")} or newer, which has the tdx-guest object`,
    },
    {
      name: "vsock",
      ok: await usable("/dev/vsock"),
      found: (await usable("/dev/vsock")) ? "/dev/vsock" : "missing",
      fix: "load vhost_vsock and run Intel's quote generation service (qgsd) on vsock port 4050",
    },
  ];
}
