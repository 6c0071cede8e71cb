// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { generateSealingKey } from "@caisson/protocol/hpke";
import { SealedLog } from "@caisson/protocol/sealed-log";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { newLogKey, readLogKey } from "./log-key.ts";
import { openLog } from "./sealed-console.ts";

const place = temporaryDirectory("log-key");
const owner = generateSealingKey();

/** Parts with one line each, numbered. */
function run(count: number): string[] {
  const parts: string[] = [];
  const log = new SealedLog([owner.publicKey], (data) => parts.push(data));
  for (let n = 0; n < count; n++) {
    log.add([n, "web", `line ${n}`]);
    log.flush(n === count - 1);
  }
  return parts;
}

async function opened(parts: readonly string[]) {
  const gaps = { missing: 0, foreign: 0, altered: 0, ended: false };
  async function* events(): AsyncGenerator<ConsoleEvent> {
    for (const data of parts) yield await Promise.resolve({ at: 1, kind: "log", data } as const);
  }
  const lines: string[] = [];
  for await (const [, , line] of openLog(events(), owner, gaps)) lines.push(line);
  return { lines, ...gaps };
}

test("what the machine sent is opened in its order, to the end", async () => {
  deepEqual(await opened(run(3)), {
    lines: ["line 0", "line 1", "line 2"],
    missing: 0,
    foreign: 0,
    altered: 0,
    ended: true,
  });
});

test("what the host leaves out, repeats, makes up or alters is counted, and nothing of it is shown", async () => {
  const [zero, one, two, three] = run(4) as [string, string, string, string];
  const flipped = Buffer.from(two, "base64");
  flipped[flipped.length - 1]! ^= 1;
  const made = run(1)[0]!;
  const found = await opened([zero, made, zero, flipped.toString("base64"), three]);
  deepEqual(found, { lines: ["line 0", "line 3"], missing: 2, foreign: 2, altered: 1, ended: true });
  deepEqual(await opened([zero, one]), {
    lines: ["line 0", "line 1"],
    missing: 0,
    foreign: 0,
    altered: 0,
    ended: false,
  });
  const other: string[] = [];
  const log = new SealedLog([generateSealingKey().publicKey], (data) => other.push(data));
  log.flush(true);
  equal((await opened(other)).foreign, 1);
});

test("a key's file is as age-keygen writes it, nobody else's to read, and never written over", () => {
  const path = join(place, "key");
  match(newLogKey(path), /^age1[a-z0-9]{58}$/);
  equal(statSync(path).mode & 0o777, 0o600);
  match(readFileSync(path, "utf8"), /^# public key: age1\S+\nAGE-SECRET-KEY-1\S+\n$/);
  equal(readLogKey(path).publicKey.length, 32);
  throws(() => newLogKey(path), { code: "cli/usage" });
  writeFileSync(join(place, "none"), "# nothing\n");
  throws(() => readLogKey(join(place, "none")), { code: "cli/usage", message: /no private key/ });
});
