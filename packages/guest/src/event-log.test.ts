import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { extend, runtimeEventDigest } from "@caisson/measure";
import { EventLog } from "./event-log.ts";
import type { Platform } from "./platform.ts";

const directory = mkdtempSync(join(tmpdir(), "caisson-test-"));
after(() => rmSync(directory, { recursive: true }));

/** A register in memory; `failing` makes the kernel refuse. */
function platform(): Platform & { rtmr3: Uint8Array; failing: boolean } {
  return {
    name: "emulated",
    rtmr3: new Uint8Array(48),
    failing: false,
    async extend(digest) {
      if (this.failing) throw new Error("EIO");
      this.rtmr3 = await extend(this.rtmr3, digest);
    },
    registers: () => Promise.reject(new Error("unused")),
    quote: () => Promise.reject(new Error("unused")),
    bootLog: () => Promise.reject(new Error("unused")),
  };
}

test("register and log hold the same events in the same order, however they are asked for", async () => {
  const machine = platform();
  const path = join(directory, "order");
  const log = new EventLog(machine, path);
  const names = ["one", "two", "three", "four"];
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
  const log = new EventLog(machine, join(directory, "refused"));
  machine.failing = true;
  await rejects(log.append("lost", new Uint8Array()), /EIO/);
  machine.failing = false;
  await log.append("kept", new Uint8Array());
  deepEqual(
    log.events.map(({ name }) => name),
    ["kept"],
  );
});

for (const name of ["", "a:b", "Upper", "ü", "x".repeat(65)]) {
  test(`no event name: ${JSON.stringify(name.slice(0, 8))}`, async () => {
    const machine = platform();
    await rejects(
      new EventLog(machine, join(directory, `name-${Math.random()}`)).append(name, new Uint8Array()),
    );
    equal(
      Buffer.from(machine.rtmr3).some((byte) => byte !== 0),
      false,
    );
  });
}
