// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { extend, runtimeEventDigest } from "@caisson/measure";
import { bootEvents, bootSequence } from "@caisson/vocabulary/events";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { RuntimeLog } from "./event-log.ts";
import type { PlatformAdapter } from "./platform.ts";

const directory = temporaryDirectory("test");

/** A register in memory; `failing` makes the kernel refuse. */
function platform(): PlatformAdapter & { rtmr3: Uint8Array; failing: boolean } {
  return {
    name: "emulated",
    rtmr3: new Uint8Array(48),
    failing: false,
    async extend(digest) {
      if (this.failing) throw new Error("EIO");
      this.rtmr3 = await extend(this.rtmr3, digest);
    },
    quote: () => Promise.reject(new Error("unused")),
    bootLog: () => Promise.reject(new Error("unused")),
  };
}

test("register and log hold the same events in the same order, however they are asked for", async () => {
  const machine = platform();
  const path = join(directory, "order");
  const log = new RuntimeLog(machine, path, bootEvents);
  const names = [...bootEvents, "later"];
  await Promise.all(names.map((name, i) => log.append(name, Uint8Array.of(i))));
  let expected = new Uint8Array(48);
  for (const [i, name] of names.entries()) {
    expected = new Uint8Array(await extend(expected, await runtimeEventDigest(name, Uint8Array.of(i))));
  }
  deepEqual(new Uint8Array(machine.rtmr3), expected);
  const lines = readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  deepEqual(
    lines,
    names.map((name, i) => ({ name, payload: `0${i}` })),
  );
});

test("an event that the register refused is not in the log, and the next one still works", async () => {
  const machine = platform();
  const log = new RuntimeLog(machine, join(directory, "refused"), bootEvents);
  machine.failing = true;
  await rejects(log.append("system-preparing", Uint8Array.of(1)), /EIO/);
  machine.failing = false;
  await log.append("system-preparing", Uint8Array.of(2));
  deepEqual(log.events, [{ name: "system-preparing", payload: Uint8Array.of(2) }]);
});

/** What is asked for, and which of it is refused without a trace in the register. */
const wrongOrders: Record<string, { names: string[]; refused: number }> = {
  "a later event before the boot's": { names: ["later", ...bootEvents], refused: 0 },
  "an event left out": { names: bootEvents.slice(1), refused: 0 },
  "an event twice": { names: ["system-preparing", "system-preparing"], refused: 1 },
  "a later event between": { names: [...bootEvents.slice(0, 7), "later"], refused: 7 },
  "an event of the boot after its end": { names: [...bootEvents, "later", "secure-time"], refused: 9 },
  "the end twice": { names: [...bootEvents, "system-ready"], refused: 8 },
};
for (const [what, { names, refused }] of Object.entries(wrongOrders)) {
  test(`not measured: ${what}`, async () => {
    const machine = platform();
    const log = new RuntimeLog(machine, join(directory, what), bootEvents);
    for (const name of names.slice(0, refused)) await log.append(name, new Uint8Array());
    const before = machine.rtmr3;
    await rejects(log.append(names[refused]!, new Uint8Array()), /out of order/);
    deepEqual(machine.rtmr3, before);
    equal(log.events.length, refused);
  });
}

test("an image with secrets measures them before it is ready, and another one never", async () => {
  const sequence = bootSequence(["secrets"]);
  const log = new RuntimeLog(platform(), join(directory, "secrets"), sequence);
  for (const name of sequence) await log.append(name, new Uint8Array());
  const without = new RuntimeLog(platform(), join(directory, "no-secrets"), bootEvents);
  for (const name of bootEvents.slice(0, -1)) await without.append(name, new Uint8Array());
  await rejects(without.append("secrets", new Uint8Array()), /out of order/);
});

for (const name of ["", "a:b", "Upper", "ü", "x".repeat(65)]) {
  test(`no event name: ${JSON.stringify(name.slice(0, 8))}`, async () => {
    const machine = platform();
    await rejects(
      new RuntimeLog(machine, join(directory, `name-${Math.random()}`), bootEvents).append(
        name,
        new Uint8Array(),
      ),
    );
    equal(
      Buffer.from(machine.rtmr3).some((byte) => byte !== 0),
      false,
    );
  });
}
