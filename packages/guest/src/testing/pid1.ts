// SPDX-License-Identifier: Apache-2.0
/**
 * PID 1 as a process that is not PID 1: `node pid1.ts ROOT [FAULT_MS]`. Its system calls are lines on its console, which
 * is stdout, and powering off is its end. With `FAULT_MS`, something throws after so long that nobody catches.
 */
import { writeSync } from "node:fs";
import { init } from "../init.ts";
import type { Syscalls } from "../syscalls.ts";

const [root = "/nowhere", faultMs] = process.argv.slice(2);
const call =
  (name: string) =>
  (...values: unknown[]): undefined => {
    writeSync(1, `call ${[name, ...values].join(" ")}\n`);
    return undefined;
  };
const syscalls: Syscalls = {
  mount: call("mount"),
  clockSettime: call("clockSettime"),
  adjtime: call("adjtime"),
  cpuRandom: call("cpuRandom"),
  comeFirst: call("comeFirst"),
  deafen: call("deafen"),
  reap: call("reap"),
  forbidCoreDumps: call("forbidCoreDumps"),
  forbidNewCode: call("forbidNewCode"),
  newCodeForbidden: () => true,
  pipe: () => [-1, -1],
  unshared: () => -1,
  mountMapped: call("mountMapped"),
  unmount: call("unmount"),
  spawn: () => -1,
  netlink: call("netlink"),
  cryptOpen: () => -1,
  cryptClose: call("cryptClose"),
  btrfsInfo: () => ({ generation: 0n, fsid: new Uint8Array(16), nodeSize: 0, checksumType: 0, devices: 0 }),
  btrfsResize: call("btrfsResize"),
  btrfsErrors: () => 0,
  btrfsCommit: async () => 0n,
  freeze: call("freeze"),
  thaw: call("thaw"),
  powerOff() {
    call("powerOff")();
    process.exit(0);
  },
};
if (faultMs !== undefined) {
  setTimeout(() => {
    throw new Error("nobody expected this");
  }, Number(faultMs));
}
await init({ syscalls, root, port: (bytes) => writeSync(1, bytes) });
