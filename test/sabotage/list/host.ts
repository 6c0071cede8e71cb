// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const host = within("packages/host/src", [
  [
    "a quote of any size is asked for",
    "quoting.ts",
    "if (pending.readUInt32LE(4) !== bodySize) {",
    "if (false) {",
    "quoting.test.ts",
  ],
  [
    "a service that fails says that it signed",
    "quoting.ts",
    "socket.write(answer(status.failed));",
    "socket.write(answer(status.done));",
    "quoting.test.ts",
  ],
  [
    "noise before a request hides it",
    "quoting.ts",
    'const start = pending.indexOf("CQRQ");',
    'const start = pending.indexOf("CQRQ") === 0 ? 0 : -1;',
    "quoting.test.ts",
  ],
  ["QEMU's refusal is not an error", "qmp.ts", "if (error !== undefined)", "if (false)", "qmp.test.ts"],
  [
    "who waits for QEMU waits for ever when it is gone",
    "qmp.ts",
    "for (const settle of this.#waiting.values()) settle(closed);",
    "",
    "qmp.test.ts",
  ],
  ["a host without TDX will do", "tdx.ts", "      ok: platform,", "      ok: true,", "tdx.test.ts"],
  [
    "an old QEMU will do",
    "tdx.ts",
    "const leastQemu = [10, 1] as const;",
    "const leastQemu = [7, 1] as const;",
    "tdx.test.ts",
  ],
  [
    "disks of a machine can be written",
    "machine.ts",
    "format=raw,readonly=${readonly},file=${value(file)}`],",
    "format=raw,file=${value(file)}`],",
    "machine.test.ts",
  ],
  [
    "devices of a machine are of before virtio 1.0",
    "machine.ts",
    "drive=${id},disable-legacy=on",
    "drive=${id}",
    "machine.test.ts",
  ],
  [
    "the machine has the host's other clock",
    "machine.ts",
    '["-machine", "q35,hpet=off,smm=off,vmport=off"],',
    '["-machine", "q35,smm=off,vmport=off"],',
    "machine.test.ts",
  ],
  [
    "a program that does not end is waited for",
    "child.ts",
    'const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);',
    "const timer = undefined;",
    "child.test.ts",
  ],
  [
    "KVM works where time alone went by",
    "accelerator.ts",
    "sleep(limits.signMs, false, unref)",
    "sleep(limits.signMs, true, unref)",
    "accelerator.test.ts",
  ],
  [
    "a sign is enough, whatever becomes of the machine",
    "accelerator.ts",
    "(await Promise.race([ended, sleep(limits.trialMs, true)]));",
    "true;",
    "accelerator.test.ts",
  ],
]);
