// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
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

test("from any application on, the others follow in the order of their ids", () => {
  const id = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => bytes.toHex());
  const ids = fc.uniqueArray(id, { maxLength: 12 });
  fc.assert(
    fc.property(ids, fc.nat(11), (apps, at) => {
      const set = new PolicySet();
      for (const app of apps) put(set, app);
      const sorted = apps.toSorted();
      deepEqual(
        [...set.following("")].map(({ app }) => app),
        sorted,
      );
      const after = sorted[at];
      if (after === undefined) return;
      deepEqual(
        [...set.following(after)].map(({ app }) => app),
        sorted.slice(at + 1),
      );
    }),
    { numRuns: 50 },
  );
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

test("what is listed since a set is what differs from it, however it was read", () => {
  const [before, after] = [new PolicySet(), new PolicySet()];
  for (let i = 0; i < 3; i++) put(before, idOf(i));
  put(after, idOf(0));
  put(after, idOf(1), { keyVersion: 2 });
  put(after, idOf(2), {}, 1);
  put(after, idOf(3));
  deepEqual(
    Array.from(after.list(before), ({ app }) => app),
    [idOf(1), idOf(2), idOf(3)],
  );
});

test("sets that share shards say each what is in it, whichever of them changes", () => {
  const apps = Array.from(
    { length: 64 },
    (_, i) => `${(i % 8).toString(16).padStart(2, "0")}${idOf(i).slice(2)}`,
  );
  const warned = { references: [{ name: "no RTMR0", mrtd: "a0".repeat(48) }] };
  const says = (set: PolicySet) => ({
    apps: [...set.apps()].sort(),
    keyVersions: apps.map((app) => set.get(app)?.keyVersion),
    warned: set.warnings().get("policy/not-covered"),
    size: set.size,
  });
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          set: fc.nat(2),
          app: fc.nat(apps.length - 1),
          what: fc.constantFrom("set", "warned", "delete", "copy"),
        }),
        { maxLength: 40 },
      ),
      (steps) => {
        const sets = [0, 1, 2].map(() => ({
          set: new PolicySet(),
          model: new Map<string, { keyVersion: number; warned: boolean }>(),
        }));
        for (const [i, { set: which, app: at, what }] of steps.entries()) {
          const [one, app] = [sets[which]!, apps[at]!];
          if (what === "copy") {
            sets[(which + 1) % 3] = { set: new PolicySet(one.set), model: new Map(one.model) };
          } else if (what === "delete") {
            one.set.delete(app);
            one.model.delete(app);
          } else {
            const file = machine.policyFile(what === "warned" ? warned : {});
            put(one.set, app, { ...file, app, keyVersion: i + 1 });
            one.model.set(app, { keyVersion: i + 1, warned: what === "warned" });
          }
        }
        for (const { set, model } of sets) {
          deepEqual(says(set), {
            apps: [...model.keys()].sort(),
            keyVersions: apps.map((app) => model.get(app)?.keyVersion),
            warned: model
              .values()
              .filter(({ warned }) => warned)
              .toArray().length,
            size: model.size,
          });
        }
        const [one, other] = sets;
        const together = new PolicySet(one!.set, other!.set);
        deepEqual(new Set(together.apps()), new Set([...one!.model.keys(), ...other!.model.keys()]));
        const shared = one!.model
          .keys()
          .toArray()
          .find((app) => other!.model.has(app));
        equal(one!.set.common(other!.set) === undefined, shared === undefined);
        // What is listed since a set is what differs from it.
        const listed = new Set(Array.from(together.list(one!.set), ({ app }) => app));
        for (const app of other!.model.keys()) equal(listed.has(app) || one!.model.has(app), true);
        for (const app of one!.model.keys()) equal(listed.has(app) && !other!.model.has(app), false);
      },
    ),
  );
});

test("what all policies say together is what some say, each once", () => {
  const set = new PolicySet();
  for (let i = 0; i < 3; i++) put(set, idOf(i));
  equal(set.roots().length, 1);
  deepEqual(set.platforms(), []);
  deepEqual([...set.identities()], []);
  deepEqual([...set.warnings().values()], [0, 0]);
});
