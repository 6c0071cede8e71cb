// SPDX-License-Identifier: Apache-2.0
import { equal, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { writeCanonical } from "./canonical.ts";
import { followIdentity, identityPayloadType, readIdentity } from "./identity.ts";
import { keysOf } from "./testing/owners.ts";
import { signedBy, signer } from "./testing/signers.ts";

const [a, b, c] = [signer("a"), signer("b"), signer("c", "p256")];
const [d, stop, stranger] = [signer("d"), signer("stop"), signer("stranger")];

const first = {
  version: "caisson/identity/v1",
  name: "payments",
  generation: 0,
  previous: null as string | null,
  owners: keysOf(2, a, b, c),
  stop: keysOf(1, stop),
  rebuild: null,
  secrets: null,
  log: null as object | null,
  immutable: null as string | null,
};
const bytes = writeCanonical(first);

/** The hash of docs/releases.md, written down a second time. */
function hashOf(document: Uint8Array): string {
  const sum = createHash("sha256");
  for (const part of [Buffer.from("caisson/identity/v1"), document]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    sum.update(length).update(part);
  }
  return sum.digest("hex");
}
const id = hashOf(bytes);

const later = (change: object) =>
  writeCanonical({ ...first, generation: 1, previous: id, owners: keysOf(2, b, c, d), ...change });
const envelope = (document: Uint8Array, ...signers: (typeof a)[]) =>
  signedBy({ payload: document, payloadType: identityPayloadType }, ...signers);

test("the id is the hash of the document of generation 0", async () => {
  equal((await readIdentity(bytes)).hash, id);
  equal((await followIdentity(id, bytes, [])).document.name, "payments");
});

test("owners hand over: both generations sign, and the id stays", async () => {
  const second = later({});
  const third = writeCanonical({ ...first, generation: 2, previous: hashOf(second), owners: keysOf(1, d) });
  const chain = [envelope(second, a, b, c), envelope(third, d, b)];
  const { document, hash } = await followIdentity(id, bytes, chain);
  equal(document.generation, 2);
  equal(hash, hashOf(third));
});

const refused: { name: string; follow: () => Promise<unknown>; code: string }[] = [
  {
    name: "another document for the id",
    follow: () => followIdentity(id, writeCanonical({ ...first, name: "other" }), []),
    code: "identity/hash",
  },
  {
    name: "a later generation in place of the first",
    follow: () => followIdentity(hashOf(later({})), later({}), []),
    code: "identity/hash",
  },
  {
    name: "a generation left out",
    follow: () => followIdentity(id, bytes, [envelope(later({ generation: 2 }), a, b, c)]),
    code: "identity/chain",
  },
  {
    name: "a generation of another application",
    follow: () => followIdentity(id, bytes, [envelope(later({ previous: "00".repeat(32) }), a, b, c)]),
    code: "identity/chain",
  },
  {
    name: "the same generation twice",
    follow: () => followIdentity(id, bytes, [envelope(later({}), a, b, c), envelope(later({}), a, b, c)]),
    code: "identity/chain",
  },
  {
    name: "old owners removed without their signatures",
    follow: () => followIdentity(id, bytes, [envelope(later({}), c, d)]),
    code: "identity/threshold",
  },
  {
    name: "new owners who did not sign",
    follow: () => followIdentity(id, bytes, [envelope(later({ owners: keysOf(2, d, stranger) }), a, b)]),
    code: "identity/threshold",
  },
  {
    name: "one owner signing twice",
    follow: () => followIdentity(id, bytes, [envelope(later({ owners: keysOf(1, d) }), a, a, d)]),
    code: "identity/threshold",
  },
  {
    name: "another set of stop keys",
    follow: () => followIdentity(id, bytes, [envelope(later({ stop: keysOf(1, a) }), a, b, c)]),
    code: "identity/chain",
  },
  {
    name: "immutable undone",
    follow: async () => {
      const fixed = later({ immutable: "11".repeat(32) });
      const undone = writeCanonical({ ...first, generation: 2, previous: hashOf(fixed) });
      await followIdentity(id, bytes, [envelope(fixed, a, b, c)]);
      return followIdentity(id, bytes, [envelope(fixed, a, b, c), envelope(undone, a, b, c)]);
    },
    code: "identity/chain",
  },
  {
    name: "a payload of another type",
    follow: () =>
      followIdentity(id, bytes, [signedBy({ payload: later({}), payloadType: "application/json" }, a, b, c)]),
    code: "envelope/malformed",
  },
];
for (const { name, follow, code } of refused) test(`refused: ${name}`, () => rejects(follow(), { code }));

const malformed: [name: string, change: object][] = [
  ["a threshold of 0", { owners: { ...first.owners, threshold: 0 } }],
  ["a threshold above the number of keys", { owners: { ...first.owners, threshold: 4 } }],
  ["a key twice", { owners: keysOf(2, a, b, a) }],
  ["no owner", { owners: { threshold: 1, keys: [] } }],
  ["a key in capitals", { stop: { threshold: 1, keys: [{ type: "ed25519", key: "AB".repeat(32) }] } }],
  ["a key of another type", { stop: { threshold: 1, keys: [{ type: "rsa", key: "ab".repeat(32) }] } }],
  [
    "a P-256 key in short form",
    { stop: { threshold: 1, keys: [{ type: "p256", key: `02${"ab".repeat(32)}` }] } },
  ],
  ["a first generation with a previous one", { previous: "00".repeat(32) }],
  ["a later generation without one", { generation: 1 }],
  ["a log whose policy has no quorum", { log: { policy: "# nothing\n" } }],
  ["another version", { version: "caisson/identity/v2" }],
  ["an unknown field", { more: 1 }],
];
for (const [name, change] of malformed) {
  test(`malformed: ${name}`, () =>
    rejects(readIdentity(writeCanonical({ ...first, ...change })), { code: "identity/malformed" }));
}

test("a bit of a document changed gives another id, or no document", async () => {
  const property = fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), async (at, bit) => {
    const changed = Uint8Array.from(bytes);
    changed[at]! ^= 1 << bit;
    await rejects(followIdentity(id, changed, []), (error: { code: string }) =>
      ["identity/hash", "identity/malformed"].includes(error.code),
    );
  });
  await fc.assert(property);
});
