// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { writeCheckpoint } from "@caisson/releases";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { noteSigner } from "./keys.ts";
import { Witness } from "./witness.ts";

const newKey = (name: string, kind: "note" | "cosignature") =>
  noteSigner(name, kind, generateKeyPairSync("ed25519").privateKey);
const origin = "log.example/one";
const [log, stranger, witnessKey] = [
  await newKey(origin, "note"),
  await newKey(origin, "note"),
  await newKey("witness.example", "cosignature"),
];

/** A request for a checkpoint of so many entries, with a root of its own, signed by `key`. */
async function request(old: number, size: number, root: number, key = log): Promise<string> {
  const text = writeCheckpoint({ origin, size, root: new Uint8Array(32).fill(root) });
  return [`old ${old}`, "", `${text}\n${await key.line(text)}`].join("\n");
}

test("a witness signs one history: what the log signed, and once for each size", async (t) => {
  const directory = temporaryDirectory("witness", t);
  const witness = new Witness(directory, witnessKey, [log.key], () => 0);
  const status = async (body: string) => (await witness.add(body)).status;
  equal(await status(await request(0, 2, 1, stranger)), 403);
  equal(await status(await request(0, 2, 1)), 200);
  deepEqual(await witness.add(await request(2, 2, 2)), { status: 409, body: "2\n" });
  deepEqual(await witness.add(await request(0, 2, 2)), { status: 409, body: "2\n" });
  equal(await status(await request(2, 3, 3)), 422, "nothing shows that the log was only added to");
});
