// SPDX-License-Identifier: Apache-2.0
/** How a started machine's boot ends, for whoever waits: the machine itself is a stand-in here. */
import { equal, rejects, throws } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Vm } from "@caisson/host/vm";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { judgeEnd, untilReady } from "./boot-watch.ts";
import { Interrupted } from "./failure.ts";
import { BootView } from "./views/boot-view.ts";

const place = temporaryDirectory("watch");
const log = join(place, "console.log");
writeFileSync(log, "last words\n");
const view = new BootView(
  () => {},
  () => 0,
  false,
);
const never = new Promise<never>(() => {});

/** A machine that said `events`; `gone`: it has ended. */
const machine = (events: readonly ConsoleEvent[], gone: boolean): Vm =>
  ({
    events,
    ended: gone ? Promise.resolve(0) : never,
    event: (wanted: (event: ConsoleEvent) => boolean) => {
      const found = events.find(wanted);
      return found !== undefined || gone ? Promise.resolve(found) : never;
    },
    kill: () => {},
  }) as unknown as Vm;
const ready: ConsoleEvent = { at: 1, kind: "ready", port: 80 };
const over = (status: number): ConsoleEvent => ({ at: 2, kind: "ended", service: "web", status });

test("a machine that is ready, one that ends before, and one whose watcher was interrupted", async () => {
  const { signal } = new AbortController();
  equal((await untilReady(machine([ready], false), view, signal, log)).ready.port, 80);
  await rejects(untilReady(machine([], true), view, signal, log), { code: "up/boot" });
  const interrupted = new AbortController();
  const waiting = untilReady(machine([], false), view, interrupted.signal, log);
  interrupted.abort(new Interrupted("SIGINT"));
  await rejects(waiting, { code: "cli/interrupted" });
  const already = untilReady(machine([ready], false), view, interrupted.signal, log);
  await rejects(already, { code: "cli/interrupted" });
});

test("an application's status is the command's, and a machine that just ends is a failure", () => {
  judgeEnd(machine([ready, over(0)], true), log);
  throws(() => judgeEnd(machine([ready, over(3)], true), log), {
    code: "up/application",
    message: "web ended with status 3",
  });
  throws(() => judgeEnd(machine([ready], true), log), { code: "up/machine" });
});
