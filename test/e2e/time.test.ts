// SPDX-License-Identifier: Apache-2.0
/** A running machine whose clock the host stops: the later checks see it, and keys are frozen. */
import { equal, match, ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startSession } from "@caisson/machine/session";
import type { LiveReport } from "@caisson/protocol/live-report";
import { image, references, shape } from "../support/image.ts";

/** The first later check comes after 64 s of the guest's time. */
const firstCheckMs = 64_000;
const pauseMs = 10_000;

interface Answer {
  clockAlarm: boolean;
  publicKey: string;
  time: string;
}

test("the host pauses the machine: the clock is not stepped, the alarm is raised, keys are frozen", async () => {
  const { directory, manifest } = await image();
  const state = mkdtempSync(join(tmpdir(), "caisson-e2e-time-"));
  const session = await startSession({
    image: directory,
    manifest,
    shape,
    state,
    references: await references(),
    limitMs: 600_000,
  });
  const ask = async (): Promise<Answer> => {
    const response = await fetch(session.url!, { headers: { accept: "application/json" } });
    return (await response.json()) as Answer;
  };
  /** Bytes of the application's key file. */
  const keyFile = async (): Promise<number | undefined> => {
    const response = await fetch(new URL("/.well-known/caisson/live", session.url));
    const { files } = (await response.json()) as LiveReport;
    return files.find(({ path }) => path === "/run/caisson/app-key")?.size;
  };
  try {
    const { vm } = session;
    const ready = await vm.event(({ kind }) => kind === "ready");
    ok(ready, `not ready: ${JSON.stringify(vm.events.slice(-4))}`);
    const before = await ask();
    equal(before.clockAlarm, false);
    match(before.publicKey, /^[0-9a-f]{64}$/);
    equal(await keyFile(), 64);

    const qmp = await vm.qmp();
    await qmp.execute("stop");
    await sleep(pauseMs);
    await qmp.execute("cont");
    qmp.close();

    const alarm = await Promise.race([
      vm.event((event) => event.kind === "note" && /^time: the clock is off by \d+ ms/.test(event.text)),
      sleep(3 * firstCheckMs, undefined, { ref: false }),
    ]);
    ok(alarm, "the first check noticed");
    const frozen = await ask();
    equal(frozen.clockAlarm, true);
    match(frozen.publicKey, /^none: keys are frozen/);
    equal(await keyFile(), 0, "the key's file is empty, too");
    const behind = Date.now() - Date.parse(frozen.time);
    ok(behind > pauseMs / 2 && behind < 3 * pauseMs, `the guest's clock is ${behind} ms behind`);
  } finally {
    await session.stop();
    rmSync(state, { recursive: true, force: true });
  }
});
