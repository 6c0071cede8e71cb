// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import test from "node:test";
import { readAppPolicy, rereading } from "./policies.ts";
import { PolicySet } from "./policy-set.ts";
import { Machine } from "./testing/machine.ts";

const machine = new Machine(Date.parse("2026-06-01T12:00:00Z"));
const reading = { manifests: new Map(), identityKey: "01".repeat(32), development: true };
const again = rereading(reading);
const idOf = (i: number) => i.toString(16).padStart(40, "0");

function put(set: PolicySet, app: string, changes: object = {}, version?: number) {
  const bytes = Buffer.from(JSON.stringify({ ...machine.policyFile(), app, ...changes }));
  const { policy } = readAppPolicy(`${app}.json`, bytes, reading);
  set.set(app, policy, bytes, again, version);
  return policy;
}

test("a policy is what was read, also when it is read again among many others", () => {
  const set = new PolicySet();
  const policies = Array.from({ length: 5000 }, (_, i) => put(set, idOf(i), { keyVersion: i + 1 }));
  equal(set.size, 5000);
  for (const i of [0, 1, 4095, 4096, 4999, 0]) deepEqual(set.get(idOf(i)), policies[i]);
  for (let i = 0; i < 5000; i++) equal(set.get(idOf(i))!.keyVersion, i + 1);
  deepEqual(set.get(idOf(17)), policies[17]);
  deepEqual(
    [...set.list()].map(({ app, digest, keyVersion }) => [app, digest.toHex(), keyVersion]),
    policies.map(({ digest, keyVersion }, i) => [idOf(i), digest.toHex(), keyVersion]),
  );
  equal(set.get(idOf(5000)), undefined);
});

test("a set made of another one goes on without it", () => {
  const before = new PolicySet();
  put(before, idOf(1), {}, 1);
  put(before, idOf(2), {}, 1);
  const after = new PolicySet(before);
  put(after, idOf(1), { keyVersion: 7 }, 2);
  after.delete(idOf(2));
  deepEqual([before.get(idOf(1))!.keyVersion, after.get(idOf(1))!.keyVersion], [1, 7]);
  deepEqual([before.version(idOf(1)), after.version(idOf(1))], [1, 2]);
  deepEqual([before.has(idOf(2)), after.has(idOf(2))], [true, false]);
  deepEqual([before.get(idOf(2))!.keyVersion, after.get(idOf(2))], [1, undefined]);
});

test("what all policies say together is what some say, each once", () => {
  const set = new PolicySet();
  for (let i = 0; i < 3; i++) put(set, idOf(i));
  equal(set.roots().length, 1);
  deepEqual(set.platforms(), []);
  deepEqual([...set.identities()], []);
  deepEqual([...set.warnings().values()], [0, 0]);
});
