// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, notDeepEqual } from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { deriveAnchorKey, deriveVolumeKeys, deriveVolumeSecret } from "./derivation.ts";
import {
  epochLimit,
  epochOf,
  firstGeneration,
  readVolumesPayload,
  ticketSchema,
  volumesPayload,
} from "./volumes.ts";

const seed = "0b".repeat(20);

test("a generation says which opening wrote it, and all of them stay below 2^63", () => {
  equal(epochOf(firstGeneration(5n) + 7n), 5n);
  equal(epochOf(firstGeneration(6n) - 1n), 5n);
  equal(firstGeneration(epochLimit) <= 1n << 63n, true);
});

test("the event has one spelling: names sorted, each once", () => {
  const payload = volumesPayload(seed, ["data", "backup"]);
  equal(new TextDecoder().decode(payload), `{"names":["backup","data"],"seed":"${seed}"}`);
  deepEqual(readVolumesPayload(payload), { names: ["backup", "data"], seed });
  const text = (value: string) => new TextEncoder().encode(value);
  for (const other of [
    `{"names":["data","backup"],"seed":"${seed}"}`,
    `{"names":["data","data"],"seed":"${seed}"}`,
    `{"names":[],"seed":"${seed}"}`,
    `{"seed":"${seed}","names":["data"]}`,
    `{"names":["data"],"seed":"${seed}","more":1}`,
    `{"names":["/etc"],"seed":"${seed}"}`,
    `{"names":["data"],"seed":"0b"}`,
    "",
    "null",
  ]) {
    equal(readVolumesPayload(text(other)), undefined, other);
  }
});

test("any bytes are an event or none", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => readVolumesPayload(bytes) === undefined),
  );
});

test("numbers of a ticket are decimal, below 2^63, in one spelling", () => {
  const { epoch } = ticketSchema.shape;
  for (const good of ["0", "1", String((1n << 63n) - 1n)]) equal(epoch.safeParse(good).success, true, good);
  for (const bad of ["", "01", "-1", "1e3", "0x1", String(1n << 63n), "9".repeat(20), 1]) {
    equal(epoch.safeParse(bad).success, false, String(bad));
  }
});

test("every volume, version, epoch and purpose has a key of its own", () => {
  const root = new Uint8Array(32).fill(1);
  const [a, b] = [new Uint8Array(32).fill(2), new Uint8Array(32).fill(3)];
  const secret = deriveVolumeSecret(root, a, 1);
  notDeepEqual(secret, deriveVolumeSecret(root, b, 1));
  notDeepEqual(secret, deriveVolumeSecret(root, a, 2));
  notDeepEqual(deriveAnchorKey(root, a, 1n), deriveAnchorKey(root, a, 2n));
  const keys = deriveVolumeKeys(secret);
  deepEqual(
    Object.values(keys).map((key) => key.length),
    [64, 16, 16, 16, 32],
  );
  equal(new Set(Object.values(keys).map((key) => key.subarray(0, 16).toHex())).size, 5);
  notDeepEqual(keys.cipher.subarray(0, 32), keys.cipher.subarray(32));
});
