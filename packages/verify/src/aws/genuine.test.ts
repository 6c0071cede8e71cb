// SPDX-License-Identifier: Apache-2.0
/** Documents of AWS Nitro: minted ones of both kinds, every single wrong thing refused with its code, policies. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import test from "node:test";
import { p384Key } from "@caisson/simulated/amd-pki";
import {
  type CborInput,
  encodeCbor,
  mintNitro,
  type NitroHierarchy,
  type NitroMinted,
  nitroHierarchy,
} from "@caisson/simulated/aws-pki";
import { der, integer, namedBits, sequence } from "@caisson/verify/der-writer";
import fc from "fast-check";
import { parse } from "yaml";
import type { ErrorCode } from "../errors.ts";
import { describeEvidence } from "../evidence/describe.ts";
import type { AnyEvidence } from "../evidence/evidence.ts";
import { readEvidence } from "../evidence/formats/forms.ts";
import { readPolicy } from "../policy/policy.ts";
import { policyFrom } from "../policy/policy-from.ts";
import { verifyEvidence, verifyGenuine } from "../verify.ts";

const times = { issued: new Date("2026-06-01T10:00:00Z"), expires: new Date("2026-06-01T13:00:00Z") };
const now = new Date("2026-06-01T10:30:00Z");
const nonce = new Uint8Array(32).fill(7);

function minted(
  change: (h: NitroHierarchy) => void = () => {},
  kind: "tpm" | "enclave" = "tpm",
): NitroMinted {
  const h = nitroHierarchy(times, kind);
  change(h);
  return mintNitro(h);
}
const nitro = (document: Uint8Array): AnyEvidence => ({ platform: "nitro", document });
const judge = ({ document, root }: NitroMinted, at = now) =>
  verifyGenuine(readEvidence(document), { now: at, nitroRoot: root });
const set = (name: string, value: CborInput) => (h: NitroHierarchy) => void h.payload.set(name, value);

for (const kind of ["tpm", "enclave"] as const) {
  test(`genuine: ${kind}`, async () => {
    const { verdict, platform, checks } = await judge(minted(() => {}, kind));
    equal(verdict, "accepted");
    deepEqual(platform, {
      tee: "nitro",
      root: "a test root that plays AWS's",
      kind,
      module: "i-0123456789abcdef0",
      time: "2026-06-01T10:01:00.000Z",
      validUntil: times.expires.toISOString(),
    });
    equal(checks.find(({ id }) => id === "chain/revocation")?.outcome, "not-checked");
  });
}

test("the real root, and none else, unless one is named", async () => {
  const { document } = minted();
  const { verdict, codes } = await verifyGenuine(nitro(document), { now });
  deepEqual([verdict, codes], ["rejected", ["chain/untrusted-root"]]);
});

test("judged at its own time, long after its certificates; never before", async () => {
  equal((await judge(minted(), new Date("2030-01-01T00:00:00Z"))).verdict, "accepted");
  deepEqual((await judge(minted(), new Date("2026-06-01T09:50:00Z"))).codes, ["nitro/future"]);
  equal((await judge(minted(), new Date("2026-06-01T09:58:00Z"))).verdict, "accepted");
});

test("the tag of COSE_Sign1 may stand before it; text forms are read", async () => {
  const { document, root } = minted();
  const judged = (bytes: Uint8Array) => judge({ document: bytes, root });
  equal((await judged(Uint8Array.from([0xd2, ...document]))).verdict, "accepted");
  equal((await judged(Buffer.from(Buffer.from(document).toString("base64")))).verdict, "accepted");
  equal((await judged(Buffer.from(Buffer.from(document).toString("hex")))).verdict, "accepted");
  throws(() => judged(Uint8Array.from([0xd3, ...document])), { code: "evidence/unsupported" });
});

const extension = (i: number, oid: string, value: Uint8Array) => (h: NitroHierarchy) => {
  h.chain[i]!.extensions.find((one) => one.oid === oid)!.value = value;
};
const yes = der(0x01, Uint8Array.of(0xff));
const refusals: [name: string, code: ErrorCode, change: (h: NitroHierarchy) => void][] = [
  ["another algorithm", "nitro/algorithm", (h) => (h.header = new Map([[1, -7]]))],
  ["no algorithm", "nitro/algorithm", (h) => (h.header = new Map())],
  [
    "another header beside it",
    "nitro/algorithm",
    (h) =>
      (h.header = new Map([
        [1, -35],
        [2, 1],
      ])),
  ],
  ["an unprotected header", "nitro/malformed", (h) => (h.unprotected = new Map([[4, 1]]))],
  ["an unknown member", "nitro/malformed", set("extra", 1)],
  ["a number for a name", "nitro/malformed", set("module_id", 1)],
  ["a module id that moves a terminal's cursor", "nitro/malformed", set("module_id", "i-\u001b[2J")],
  ["another digest", "nitro/malformed", set("digest", "SHA256")],
  ["seconds for milliseconds", "nitro/malformed", set("timestamp", 1_780_000_000)],
  ["no certificates above", "nitro/malformed", set("cabundle", new Map())],
  ["a long public key", "nitro/malformed", set("public_key", new Uint8Array(1025))],
  ["text for a nonce", "nitro/malformed", set("nonce", "00")],
  ["registers of both kinds", "nitro/malformed", set("pcrs", new Map([[0, new Uint8Array(48)]]))],
  ["no registers", "nitro/malformed", set("nitrotpm_pcrs", new Map())],
  ["a register of SHA-256", "nitro/malformed", set("nitrotpm_pcrs", new Map([[4, new Uint8Array(32)]]))],
  ["register 32", "nitro/malformed", set("nitrotpm_pcrs", new Map([[32, new Uint8Array(48)]]))],
  ["a register by a name", "nitro/malformed", set("nitrotpm_pcrs", new Map([["4", new Uint8Array(48)]]))],
  ["a missing member", "nitro/malformed", (h) => void h.payload.delete("certificate")],
  ["another key's signature", "nitro/signature", (h) => (h.key = p384Key())],
  [
    "a root that signs for itself with another key",
    "chain/signature",
    (h) => (h.chain[0]!.issuerKey = p384Key()),
  ],
  ["an authority that another key signed", "chain/signature", (h) => (h.chain[2]!.issuerKey = p384Key())],
  ["a signer that another key signed", "chain/signature", (h) => (h.chain[3]!.issuerKey = p384Key())],
  ["another issuer's name", "chain/issuer", (h) => (h.chain[2]!.issuer = "somebody")],
  [
    "another issuer's key id",
    "chain/issuer",
    extension(2, "2.5.29.35", sequence(der(0x80, new Uint8Array(20)))),
  ],
  ["a signer that is an authority", "chain/constraints", extension(3, "2.5.29.19", sequence(yes))],
  ["an authority that is none", "chain/constraints", extension(1, "2.5.29.19", sequence())],
  [
    "a path length that is too short",
    "chain/constraints",
    extension(1, "2.5.29.19", sequence(yes, integer(0))),
  ],
  [
    "an authority that may not sign certificates",
    "chain/key-usage",
    extension(2, "2.5.29.15", namedBits(0x8000)),
  ],
  ["a signer that may sign certificates", "chain/key-usage", extension(3, "2.5.29.15", namedBits(0x8400))],
  ["a signer that may not sign", "chain/key-usage", extension(3, "2.5.29.15", namedBits(0x4000))],
  [
    "a signer of another day",
    "chain/expired",
    (h) => (h.chain[3]!.notAfter = new Date("2026-06-01T10:00:30Z")),
  ],
  [
    "an authority of tomorrow",
    "chain/not-yet-valid",
    (h) => (h.chain[1]!.notBefore = new Date("2026-06-02T00:00:00Z")),
  ],
  [
    "an unknown critical extension",
    "chain/extension",
    (h) => void h.chain[2]!.extensions.push({ oid: "1.2.3.4", critical: true, value: integer(1) }),
  ],
  ["an authority left out", "chain/issuer", (h) => void h.chain.splice(2, 1)],
];
for (const [name, code, change] of refusals) {
  test(`refused: ${name} (${code})`, async () => {
    const h = nitroHierarchy(times);
    change(h);
    const { verdict, codes } = await judge(mintNitro(h));
    deepEqual([verdict, codes], ["rejected", [code]]);
  });
}

test("CBOR with two readings is refused: a member twice, longer forms, indefinite strings, nesting", async () => {
  const { document, root } = minted();
  const hex = Buffer.from(document).toString("hex");
  const payload = hex.indexOf("bf696d6f64756c655f6964") / 2;
  ok(payload > 0);
  /** The document with bytes put into its payload, whose length is 2 bytes before it. */
  const spliced = (at: number, remove: number, bytes: string) => {
    const put = Buffer.from(bytes, "hex");
    const whole = Buffer.concat([
      document.subarray(0, payload + at),
      put,
      document.subarray(payload + at + remove),
    ]);
    whole.writeUInt16BE(whole.readUInt16BE(payload - 2) + put.length - remove, payload - 2);
    return new Uint8Array(whole);
  };
  for (const [name, bytes] of [
    ["a member twice", spliced(1, 0, "696d6f64756c655f6964613f")],
    ["a longer head", spliced(1, 1, "7809")],
    ["an indefinite string", spliced(1, 0, "7f61616161ffff00")],
    ["nesting", spliced(1, 0, `6161${"81".repeat(20)}00`)],
    ["a float", spliced(1, 0, "6161f90000")],
    ["a tag", spliced(1, 0, "6161c000")],
    ["more items than there are bytes", spliced(1, 0, "61619a00100000")],
    ["a key that is an array", spliced(1, 0, "8000")],
    ["text that is not UTF-8", spliced(1, 0, "61ff00")],
    ["a number that cannot be exact", spliced(1, 0, "61611bffffffffffffffff")],
  ] as const) {
    deepEqual((await judge({ document: bytes, root })).codes, ["nitro/malformed"], name);
  }
});

test("one bit changed in every byte, and every truncation: refused", async () => {
  const { document, root } = minted();
  for (let i = 0; i < document.length; i++) {
    const bytes = document.with(i, document[i]! ^ (1 << (i & 7)));
    const { verdict } = await verifyGenuine(nitro(bytes), { now, nitroRoot: root });
    equal(verdict, "rejected", `byte ${i}`);
    if (i % 7 === 0) {
      const cut = await verifyGenuine(nitro(document.subarray(0, i)), { now, nitroRoot: root });
      deepEqual(cut.codes, ["nitro/malformed"], `cut at ${i}`);
    }
  }
  const longer = await verifyGenuine(nitro(Uint8Array.from([...document, 0])), { now, nitroRoot: root });
  deepEqual(longer.codes, ["nitro/malformed"]);
  const huge = await verifyGenuine(nitro(new Uint8Array(1 << 20).fill(0x84)), { now, nitroRoot: root });
  deepEqual(huge.codes, ["nitro/malformed"]);
});

test("any bytes that begin like one are refused, and nothing crashes", async () => {
  const item: fc.Arbitrary<CborInput> = fc.letrec<{ item: CborInput }>((tie) => ({
    item: fc.oneof(
      { maxDepth: 3 },
      fc.integer(),
      fc.string(),
      fc.uint8Array(),
      fc.constant(null),
      fc.array(tie("item"), { maxLength: 4 }),
      fc
        .array(fc.tuple(fc.oneof(fc.string(), fc.nat(40)), tie("item")), { maxLength: 4 })
        .map((list) => new Map(list)),
    ),
  })).item;
  const { root } = minted();
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.uint8Array(),
        item.map((one) => encodeCbor(one)),
      ),
      item,
      async (payload, other) => {
        const whole = encodeCbor([
          encodeCbor(new Map([[1, -35]])),
          new Map(),
          new Uint8Array(payload),
          Buffer.alloc(96),
        ]);
        for (const document of [whole, encodeCbor(other), new Uint8Array(payload)]) {
          equal((await verifyGenuine(nitro(document), { now, nitroRoot: root })).verdict, "rejected");
        }
      },
    ),
  );
});

const pinned = (kind: "tpm" | "enclave" = "tpm") => {
  const made = minted(() => {}, kind);
  const policy = parse(policyFrom(nitro(made.document), undefined)) as { nitro: Record<string, unknown> };
  return { made, policy };
};
async function codesUnder(
  policy: object,
  { document, root }: NitroMinted,
  bound: Uint8Array | undefined = nonce,
) {
  const report = await verifyEvidence(nitro(document), {
    policy: readPolicy(policy),
    now,
    nitroRoot: root,
    ...(bound && { expectedReportData: { scheme: "raw", fields: { data: bound } } }),
  });
  return report.codes;
}

test("a policy made of a document accepts it, and refuses each field that is another", async () => {
  const { made, policy } = pinned();
  deepEqual(await codesUnder(policy, made), []);
  // The policy is of another hierarchy; what it pins is the same in all of them.
  const differs = async (change: (h: NitroHierarchy) => void) => codesUnder(policy, minted(change));
  deepEqual(await differs(() => {}), []);
  const pcrs = (index: number) => (h: NitroHierarchy) => {
    const map = h.payload.get("nitrotpm_pcrs") as Map<number, Uint8Array>;
    map.set(index, Buffer.alloc(48, 0xee));
  };
  for (const index of [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15])
    deepEqual(await differs(pcrs(index)), ["nitro/pcr"]);
  deepEqual(await differs(set("module_id", "i-other")), ["nitro/module"]);
  deepEqual(await differs(set("public_key", Buffer.from("another key"))), ["nitro/public-key"]);
  deepEqual(await differs(set("public_key", null)), ["nitro/public-key"]);
  deepEqual(
    await codesUnder(
      policy,
      minted(() => {}, "enclave"),
    ),
    ["nitro/kind"],
  );
});

test("what is certain wins: a document of a later time that a policy refuses anyway", async () => {
  const { made, policy } = pinned();
  const judgedEarly = async ({ document, root }: NitroMinted) => {
    const { verdict, codes } = await verifyEvidence(nitro(document), {
      policy: readPolicy({ ...policy, freshness: "any" }),
      now: new Date("2026-06-01T09:50:00Z"),
      nitroRoot: root,
    });
    return [verdict, codes];
  };
  deepEqual(await judgedEarly(made), ["undetermined", ["nitro/future"]]);
  const other = minted(set("module_id", "i-other"));
  deepEqual(await judgedEarly(other), ["rejected", ["nitro/future", "nitro/module"]]);
});

test("freshness: the nonce, no other, and none", async () => {
  const { made, policy } = pinned();
  deepEqual(await codesUnder(policy, made, new Uint8Array(32)), ["report-data/nonce"]);
  deepEqual(await codesUnder(policy, made, new Uint8Array()), ["report-data/no-nonce"]);
  deepEqual(await codesUnder({ ...policy, freshness: "any" }, made, new Uint8Array()), []);
  deepEqual(await codesUnder(policy, minted(set("nonce", null))), ["report-data/nonce"]);
});

test("what is not stated: PCRs are missing, an enclave in debug mode never passes", async () => {
  const { made } = pinned();
  const version = "caisson/policy/v1";
  deepEqual(await codesUnder({ version, nitro: {} }, made), ["nitro/pcrs-not-stated"]);
  deepEqual(await codesUnder({ version, nitro: { pcrs: {} } }, made), ["nitro/pcrs-not-stated"]);
  deepEqual(await codesUnder({ version, nitro: { pcrs: "any" } }, made), []);
  const debug = minted((h) => {
    (h.payload.get("pcrs") as Map<number, Uint8Array>).set(0, Buffer.alloc(48));
  }, "enclave");
  deepEqual(await codesUnder({ version, nitro: { pcrs: "any", kinds: ["enclave"] } }, debug), [
    "nitro/debug",
  ]);
  deepEqual(await codesUnder({ version, nitro: { pcrs: { 20: ["00".repeat(48)] } } }, made), ["nitro/pcr"]);
  deepEqual(await codesUnder({ version, snp: {} }, made), ["policy/tee"]);
  deepEqual(describeEvidence(nitro(debug.document)).warnings, [
    "this is a DEBUG enclave: its host reads its console",
  ]);
});
