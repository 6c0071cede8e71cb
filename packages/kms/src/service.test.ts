// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createRootSecret } from "./root-secret.ts";
import { openService } from "./service.ts";
import { Machine } from "./testing/machine.ts";

test("a reload is done once all that came to the log before it is done", async (t) => {
  const place = mkdtempSync(join(tmpdir(), "caisson-kms-service-"));
  t.after(() => rmSync(place, { recursive: true }));
  const [data, policies] = [join(place, "data"), join(place, "policies")];
  mkdirSync(policies);
  writeFileSync(join(policies, "app.json"), JSON.stringify(new Machine(Date.now()).policyFile()));
  createRootSecret(data, { development: true });
  const lines: string[] = [];
  const log = (line: string) => void lines.push(line);
  const service = await openService({ data, policies, development: true, log });
  t.after(() => service.close());
  const { store } = service;
  const commit = store.commit.bind(store);
  const gate = Promise.withResolvers<void>();
  let turn = gate.promise as Promise<unknown>;
  t.mock.method(store, "commit", (change: Parameters<typeof commit>[0]) => {
    const result = turn.then(() => commit(change));
    turn = result;
    return result;
  });
  const none = new Uint8Array();
  const about = { time: Date.now(), app: none, instance: none, registers: none, policy: none };
  const released = store.commit({ entry: { ...about, outcome: "released", reason: "judged before" } });
  const reloaded = service.reload();
  equal(await Promise.race([reloaded, sleep(300, "it waits")]), "it waits");
  gate.resolve();
  equal(await released, "done");
  equal(await reloaded, true);
  const { event, logEntries } = JSON.parse(lines.at(-1)!) as Record<string, unknown>;
  deepEqual([event, logEntries], ["reloaded", 1]);
});
