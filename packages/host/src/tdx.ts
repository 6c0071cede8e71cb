// SPDX-License-Identifier: Apache-2.0
/**
 * Can this host start a trust domain? One check for each thing that a TD needs, each with the reason and the remedy,
 * so that whoever sets up a host sees everything that is missing at once. Nothing here is a security decision. Whether
 * a quoting service listens cannot be seen from here: only that there is the vsock over which QEMU would ask it.
 */
import { constants } from "node:fs";
import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
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

/** The first QEMU that can start a trust domain, [major, minor]. */
export const leastQemu = [10, 1] as const;

async function contents(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").then(
    (value) => value.trim(),
    () => undefined,
  );
}

/** Whether a device can be opened, and if not, why. */
async function device(path: string, shown: string): Promise<Pick<Prerequisite, "ok" | "found">> {
  return access(path, constants.R_OK | constants.W_OK).then(
    () => ({ ok: true, found: `${shown} can be opened` }),
    ({ code }: NodeJS.ErrnoException) => ({
      ok: false,
      found: code === "ENOENT" ? `there is no ${shown}` : `${shown} may not be opened (${code})`,
    }),
  );
}

/** Version of a QEMU binary as [major, minor]; undefined when it does not run or says something else. */
async function qemuVersion(program: string): Promise<[number, number] | undefined> {
  try {
    const child = await start(program, ["--version"], "qemu-system-x86");
    const found = /version (\d+)\.(\d+)/.exec(await text(child.stdout!));
    return found === null ? undefined : [Number(found[1]), Number(found[2])];
  } catch {
    return undefined;
  }
}

/**
 * Everything that a host must have to start a TD, in the order in which one would set it up. `root` is where its file
 * system begins; tests have hosts of their own.
 */
export async function tdxPrerequisites(root = "/", qemu = "qemu-system-x86_64"): Promise<Prerequisite[]> {
  const cpu = (await contents(join(root, "proc/cpuinfo"))) ?? "";
  const model = /^model name\s*:\s*(.*)$/m.exec(cpu)?.[1] ?? "an unknown processor";
  const platform = /\btdx_host_platform\b/.test(cpu);
  const tdx = await contents(join(root, "sys/module/kvm_intel/parameters/tdx"));
  const version = await qemuVersion(qemu);
  const [major, minor] = version ?? [0, 0];
  return [
    {
      name: "processor",
      ok: platform,
      found: `${model}, ${platform ? "with" : "without"} the flag tdx_host_platform`,
      fix: "a processor with TDX, switched on in the machine's firmware, and a host kernel that knows it",
    },
    {
      name: "kvm",
      ...(await device(join(root, "dev/kvm"), "/dev/kvm")),
      fix: "load kvm_intel, and let this user open the device (group kvm)",
    },
    {
      name: "kvm_intel.tdx",
      ok: tdx === "Y" || tdx === "1",
      found: tdx === undefined ? "kvm_intel is not loaded, or does not know TDX" : `kvm_intel has tdx=${tdx}`,
      fix: "load kvm_intel with tdx=1, on a kernel of 6.16 or newer that was built with CONFIG_KVM_INTEL_TDX",
    },
    {
      name: "qemu",
      ok: major > leastQemu[0] || (major === leastQemu[0] && minor >= leastQemu[1]),
      found: version === undefined ? `${qemu} does not run` : `version ${version.join(".")}`,
      fix: `install QEMU ${leastQemu.join(".")} or newer, which has the tdx-guest object`,
    },
    {
      name: "vsock",
      ...(await device(join(root, "dev/vsock"), "/dev/vsock")),
      // CID 2 from the host itself is the host (net/vmw_vsock/af_vsock.c, vsock_use_local_transport).
      fix: "load vsock and vsock_loopback, and run Intel's quote generation service (qgsd) on vsock port 4050",
    },
  ];
}
