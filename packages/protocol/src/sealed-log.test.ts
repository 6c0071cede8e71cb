// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { decodeConsole, encodeConsole } from "./console.ts";
import { generateSealingKey } from "./hpke.ts";
import { SealedLog } from "./sealed-log.ts";
import { openLogPart } from "./sealed-log-reader.ts";

const [owner, other] = [generateSealingKey(), generateSealingKey()];

test("each owner opens the lines, nobody else, and the host sees none of them", () => {
  const parts: string[] = [];
  const log = new SealedLog([owner.publicKey, other.publicKey], (data) => parts.push(data));
  log.add([1.5, "web", "the secret word"]);
  log.flush();
  log.flush();
  log.add([2, "db", "another"]);
  log.flush(true);
  equal(parts.length, 2);
  ok(!Buffer.from(parts.join(""), "base64").includes("secret"));
  for (const key of [owner, other]) {
    const opened = parts.map((part) => openLogPart(key, part)!);
    deepEqual(
      opened.map(({ number, last, lines }) => ({ number, last, lines })),
      [
        { number: 0, last: false, lines: [[1.5, "web", "the secret word"]] },
        { number: 1, last: true, lines: [[2, "db", "another"]] },
      ],
    );
    equal(opened[0]!.run, opened[1]!.run);
  }
  equal(openLogPart(generateSealingKey(), parts[0]!), undefined);
  throws(() => openLogPart(owner, "AAAA"), RangeError);
});

test("a part is given away when it is full, and fits into a line of the console, whatever is written", () => {
  const parts: string[] = [];
  const log = new SealedLog(Array(8).fill(owner.publicKey), (data) => parts.push(data));
  for (let n = 0; n < 40; n++) log.add([n, "web", "\u0001".repeat(2_000)]);
  log.flush();
  ok(parts.length > 5);
  for (const data of parts)
    ok(decodeConsole(encodeConsole({ at: 123_456.789, kind: "log", data })) !== undefined);
  deepEqual(parts.flatMap((part) => openLogPart(owner, part)!.lines).length, 40);
});
