// SPDX-License-Identifier: Apache-2.0
/** Names for machines: dnsmasq on a loopback address of its own, and a QEMU that takes it for the host's resolver. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { unpackDebian } from "./debian.ts";

const qemu = "qemu-system-x86_64";

export interface Resolver {
  /** `process.env.PATH` with which machines find it. */
  path: string;
  stop(): void;
}

/**
 * Answers for these names alone. QEMU forwards what a machine asks to what /etc/resolv.conf names, and has a mount
 * namespace of its own for that. Needs root.
 */
export async function startResolver(names: Readonly<Record<string, string>>): Promise<Resolver> {
  const { root } = await unpackDebian("bookworm", ["dnsmasq-base"], { dependencies: true });
  const at = (path: string): string => join(root, path);
  const address = `127.53.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}`;
  const libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(at).join(":");
  const options = `--library-path ${libraries} ${at("usr/sbin/dnsmasq")} --keep-in-foreground --log-facility=- --conf-file=/dev/null
    --pid-file --no-resolv --no-hosts --user=root --bind-interfaces --listen-address=${address} --local=/example/`;
  const child: ChildProcess = spawn(
    at("lib64/ld-linux-x86-64.so.2"),
    [...options.split(/\s+/), ...Object.entries(names).map(([name, to]) => `--host-record=${name},${to}`)],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  const started = new Promise<void>((resolve, reject) => {
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (/started, version/.test(said)) resolve();
    });
    child.once("exit", () => reject(new Error(`dnsmasq ended: ${said}`)));
    child.once("error", reject);
  });
  const place = mkdtempSync(join(tmpdir(), "caisson-resolver-"));
  const stop = (): void => {
    child.kill();
    rmSync(place, { recursive: true, force: true });
  };
  try {
    await started;
  } catch (error) {
    stop();
    throw error;
  }
  writeFileSync(join(place, "resolv.conf"), `nameserver ${address}\n`);
  mkdirSync(join(place, "bin"));
  const path = process.env["PATH"]!;
  const inside = `mount --bind ${place}/resolv.conf /etc/resolv.conf && PATH=${path} exec ${qemu} "$@"`;
  const wrapper = join(place, "bin", qemu);
  writeFileSync(wrapper, `#!/bin/sh\nexec unshare -m sh -c '${inside}' sh "$@"\n`);
  chmodSync(wrapper, 0o755);
  return { path: [join(place, "bin"), path].join(delimiter), stop };
}
