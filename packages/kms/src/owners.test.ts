// SPDX-License-Identifier: Apache-2.0
/**
 * Who gets keys of an application that has an identity: machines that pass every other check, each with a bundle or secrets
 * of which one thing is wrong. Each is refused with exactly its code.
 */
import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { deriveReleasedKey } from "@caisson/protocol/derivation";
import { ReleaseError } from "@caisson/releases";
import type { ProvenanceJudge } from "@caisson/releases/provenance";
import { hashOf, keysOf } from "@caisson/releases/testing/owners";
import { loadPolicies } from "./policies.ts";
import type { Commit } from "./store/store.ts";
import { directoryOf } from "./testing/context.ts";
import { Machine } from "./testing/machine.ts";
import {
  ask,
  bundleOf,
  first,
  type Given,
  kms,
  machine,
  now,
  owners,
  ownersPolicies,
  secret,
  setup,
  sha256,
  stranger,
  subjects,
  subjectsOf,
} from "./testing/owned.ts";

const day = 24 * 3600 * 1000;
const second = owners.release(subjects, { release: 2, previous: hashOf(first.payload), minimum: 2 });

test("a released image gets its application's keys, and the log says which release it was", async (t) => {
  const kmsOf = await setup(t, ownersPolicies(t, machine));
  const { key } = await ask(kmsOf, { bundle: bundleOf(first) });
  const app = Uint8Array.fromHex(owners.id);
  const wanted = { app, instance: new Uint8Array(), purpose: "application", version: 1 } as const;
  equal(key, deriveReleasedKey(secret, wanted).toHex());
  equal(kmsOf.log[0]!.reason, `release 1 ${hashOf(first.payload)}`);
});

test("another image and another description of the same application have the same keys", async (t) => {
  const kmsOf = await setup(t, ownersPolicies(t, machine));
  const other = new Machine(now, "payments-next", 0, { identity: owners.id });
  notEqual(subjectsOf(other)[1], subjects[1]);
  const next = owners.release(subjectsOf(other), { release: 2, previous: hashOf(first.payload) });
  const before = await ask(kmsOf, { bundle: bundleOf(first) });
  deepEqual(await ask(kmsOf, { of: other, bundle: bundleOf(next, {}, other) }), before);
});

const rotated = owners.rotation({ owners: keysOf(2, owners.b, owners.c) });
const unlike = new TextEncoder().encode(
  new TextDecoder().decode(machine.manifest).replace("a3".repeat(48), "a4".repeat(48)),
);
const denied: [name: string, given: Given, code: string, rules?: object][] = [
  ["a stranger's image that passes every other check: no release", {}, "release/missing"],
  ["one owner", { bundle: bundleOf(owners.release(subjects, {}, [owners.a])) }, "release/signature"],
  [
    "one owner twice",
    { bundle: bundleOf(owners.release(subjects, {}, [owners.b, owners.b])) },
    "release/signature",
  ],
  [
    "a stranger's signatures",
    { bundle: bundleOf(owners.release(subjects, {}, [stranger.a, stranger.b])) },
    "release/signature",
  ],
  [
    "a stranger's identity",
    { bundle: stranger.bundle(stranger.release(subjects), machine.manifest) },
    "identity/hash",
  ],
  ["a release of another application", { bundle: bundleOf(stranger.release(subjects)) }, "release/app"],
  [
    "another image, whose manifest the bundle has",
    { bundle: owners.bundle(owners.release([sha256(unlike), subjects[1]]), unlike) },
    "release/subject",
  ],
  [
    "the released manifest beside a release of another",
    { bundle: bundleOf(owners.release(["00".repeat(32), subjects[1]])) },
    "release/subject",
  ],
  [
    "the right manifest with another description",
    { bundle: bundleOf(owners.release([subjects[0], "00".repeat(32)])) },
    "release/subject",
  ],
  ["subjects exchanged", { bundle: bundleOf(owners.release([subjects[1], subjects[0]])) }, "release/subject"],
  ["no manifest", { bundle: owners.bundle(first) }, "release/subject"],
  [
    "expired",
    { bundle: bundleOf(owners.release(subjects, { expires: "2026-06-01T12:00:00Z" })) },
    "release/expired",
  ],
  [
    "not yet valid",
    { bundle: bundleOf(owners.release(subjects, { notBefore: "2026-06-01T12:00:01Z" })) },
    "release/not-yet-valid",
  ],
  [
    "revoked by what it carries",
    { bundle: bundleOf(first, { revocations: [owners.revocation([1])] }) },
    "release/revoked",
  ],
  [
    "a generation left out",
    { bundle: bundleOf(first, { generations: [owners.rotation({}, new Uint8Array(rotated.payload))] }) },
    "identity/chain",
  ],
  [
    "a handover that too few signed",
    { bundle: bundleOf(first, { generations: [{ ...rotated, signatures: rotated.signatures.slice(2) }] }) },
    "identity/threshold",
  ],
  [
    "a release of the generation before",
    { bundle: bundleOf(first, { generations: [rotated] }) },
    "release/generation",
  ],
  [
    "below the operator's minimum",
    { bundle: bundleOf(first) },
    "release/below-minimum",
    { minimumRelease: 2 },
  ],
  ["no log where one is required", { bundle: bundleOf(first) }, "log/proof", { requireLog: true }],
  [
    "no rebuilds where some are required",
    { bundle: bundleOf(first) },
    "rebuild/threshold",
    { requireRebuilds: 1 },
  ],
];
for (const [name, given, code, rules] of denied) {
  test(`denied: ${name}`, async (t) => {
    const answer = await ask(await setup(t, ownersPolicies(t, machine, rules)), given);
    equal(answer.code, code, answer.message ?? "released");
  });
}

test("a policy may ask who built an image: beside its owners, never instead of them", async (t) => {
  const workflow = "https://github.com/o/r/.github/workflows/w.yml@refs/tags/*";
  const rules = { profile: "public", root: { kind: "pinned" }, workflow };
  const policies = ownersPolicies(t, machine, { provenance: rules });
  const asked: unknown[] = [];
  const provenance: ProvenanceJudge = async (bundle, question) => {
    asked.push([bundle, question]);
    if ((bundle as { good?: boolean }).good !== true)
      throw new ReleaseError("provenance/signature", "it is not");
    return { profile: "public", workflow };
  };
  const kmsOf = await setup(t, policies);
  const judging = { ...kmsOf, context: { ...kmsOf.context, provenance } };
  const built = { provenance: { good: true } };
  ok((await ask(judging, { bundle: bundleOf(first, built) })).key);
  deepEqual(asked, [[built.provenance, { ...rules, manifest: subjects[0] }]]);
  const codes = [
    [judging, bundleOf(first), "provenance/missing"],
    [judging, bundleOf(first, { provenance: {} }), "provenance/signature"],
    [judging, bundleOf(owners.release(subjects, {}, [owners.a]), built), "release/signature"],
    // One that cannot judge it.
    [kmsOf, bundleOf(first, built), "provenance/missing"],
  ] as const;
  for (const [who, bundle, code] of codes) equal((await ask(who, { bundle })).code, code);
  // Who does not ask for it is not told.
  ok((await ask(await setup(t, ownersPolicies(t, machine)), { bundle: bundleOf(first, built) })).key);
});

test("a bundle that is nothing of the kind is refused as such", async (t) => {
  const kmsOf = await setup(t, ownersPolicies(t, machine));
  const { code } = await ask(kmsOf, {
    bundle: { ...bundleOf(first), identity: new TextEncoder().encode("x") },
  });
  equal(code, "identity/malformed");
});

test("what was proved is not forgotten: minimum, revocation, generation; not by a new process either", async (t) => {
  const path = join(directoryOf(t), "store.sqlite");
  const policies = ownersPolicies(t, machine);
  const one = await setup(t, policies, { path });
  ok((await ask(one, { bundle: bundleOf(second) })).key);
  equal((await ask(one, { bundle: bundleOf(first) })).code, "release/below-minimum");
  const again = await setup(t, policies, { path });
  equal((await ask(again, { bundle: bundleOf(first) })).code, "release/below-minimum");
  const third = owners.release(subjects, { release: 3, previous: hashOf(second.payload), minimum: 2 });
  ok((await ask(again, { bundle: bundleOf(third, { revocations: [owners.revocation([2])] }) })).key);
  equal((await ask(again, { bundle: bundleOf(second) })).code, "release/revoked");
  const byNew = { generation: 1, release: 4, previous: hashOf(third.payload), minimum: 2 };
  const fourth = owners.release(subjects, byNew, [owners.b, owners.c]);
  ok((await ask(again, { bundle: bundleOf(fourth, { generations: [rotated] }) })).key);
  const last = await setup(t, policies, { path });
  equal((await ask(last, { bundle: bundleOf(third) })).code, "release/generation");
});

test("signatures that were verified once are not what a release is judged by: time and what was learnt are", async (t) => {
  const clock = { ms: now };
  const kmsOf = await setup(t, ownersPolicies(t, machine), { clock: () => clock.ms });
  // The machine's own evidence stays good for an hour, so the release ends before it.
  const expires = new Date(now + 60_000).toISOString().replace(".000", "");
  const notBefore = new Date(now).toISOString().replace(".000", "");
  const short = owners.release(subjects, { notBefore, expires });
  const bundle = bundleOf(short);
  for (let i = 0; i < 2; i++) ok((await ask(kmsOf, { bundle })).key);
  clock.ms = now + 60_000;
  equal((await ask(kmsOf, { bundle })).code, "release/expired");
  clock.ms = now - 1000;
  equal((await ask(kmsOf, { bundle })).code, "release/not-yet-valid");
  clock.ms = now;
  const revoked = bundleOf(short, { revocations: [owners.revocation([1])] });
  equal((await ask(kmsOf, { bundle: revoked })).code, "release/revoked");
  ok((await ask(kmsOf, { bundle })).key);
  ok((await ask(kmsOf, { bundle: bundleOf(second) })).key);
  equal((await ask(kmsOf, { bundle })).code, "release/below-minimum");
});

test("a bundle that was refused teaches nothing", async (t) => {
  const kmsOf = await setup(t, ownersPolicies(t, machine));
  const high = owners.release(subjects, { release: 9, minimum: 9 }, [owners.a]);
  equal((await ask(kmsOf, { bundle: bundleOf(high) })).code, "release/signature");
  ok((await ask(kmsOf, { bundle: bundleOf(first) })).key);
});

test("keys that rest on what is not on disk do not leave", async (t) => {
  const kmsOf = await setup(t, ownersPolicies(t, machine));
  const full = { commit: () => Promise.reject(new Error("full")) };
  const answer = await ask(
    { ...kmsOf, context: { ...kmsOf.context, store: full } },
    { bundle: bundleOf(second) },
  );
  equal(answer.code, "log/unavailable");
});

test("what another replica learnt meanwhile counts before keys leave", async (t) => {
  const path = join(directoryOf(t), "store.sqlite");
  const policies = ownersPolicies(t, machine);
  const [one, other] = [await setup(t, policies, { path }), await setup(t, policies, { path })];
  let isFirst = true;
  const slow = {
    commit: async (change: Commit) => {
      if (isFirst) {
        isFirst = false;
        ok((await ask(other, { bundle: bundleOf(second) })).key);
      }
      return one.context.store.commit(change);
    },
  };
  const answer = await ask({ ...one, context: { ...one.context, store: slow } }, { bundle: bundleOf(first) });
  equal(answer.code, "release/below-minimum");
});

test("a policy for 32 bytes names the identity, and one for 20 does not", (t) => {
  const without = machine.policyFile();
  const directory = directoryOf(t);
  const refused = (file: object) => {
    writeFileSync(join(directory, "app.json"), JSON.stringify(file));
    try {
      loadPolicies(directory, kms, true);
    } catch (error) {
      return (error as { code: string }).code;
    }
    return "accepted";
  };
  equal(refused(without), "policy/malformed");
  equal(refused(machine.policyFile({ app: { identity: { id: "00".repeat(32) } } })), "policy/malformed");
  const plain = new Machine(now);
  equal(refused(plain.policyFile({ app: { identity: { id: owners.id } } })), "policy/malformed");
});

test("a clock set back: a release is for later", async (t) => {
  const policies = ownersPolicies(t, machine);
  const early = await setup(t, policies, { clock: () => now - 2 * day });
  const { code } = await ask(early, { bundle: bundleOf(first) });
  // The whole machine's collateral is younger, too.
  ok(code?.endsWith("not-yet-valid") === true, `${code}`);
});
