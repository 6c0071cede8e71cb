// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { type Envelope, readEnvelope, signedBytes, signersOf, writeEnvelope } from "./envelope.ts";
import { otherForm, signedBy, signer } from "./testing/signers.ts";

const text = (value: string) => new TextEncoder().encode(value);

/** The example of DSSE's protocol.md. */
const vector = {
  x: 46950820868899156662930047687818585632848591499744589407958293238635476079160n,
  y: 5640078356564379163099075877009565129882514886557779369047442380624545832820n,
  signedBytes: "DSSEv1 29 http://example.com/HelloWorld 11 hello world",
  envelope: {
    payload: "aGVsbG8gd29ybGQ=",
    payloadType: "http://example.com/HelloWorld",
    signatures: [
      {
        sig: "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==",
      },
    ],
  },
};
const point = `04${vector.x.toString(16).padStart(64, "0")}${vector.y.toString(16).padStart(64, "0")}`;
const vectorKey = { type: "p256", key: point } as const;

test("the example of the specification", async () => {
  const envelope = readEnvelope(vector.envelope);
  equal(new TextDecoder().decode(signedBytes(envelope)), vector.signedBytes);
  deepEqual(await signersOf(envelope, [vectorKey]), [vectorKey]);
  deepEqual(await signersOf({ ...envelope, payload: text("hello worle") }, [vectorKey]), []);
  deepEqual(await signersOf({ ...envelope, payloadType: "http://example.com/HelloWorle" }, [vectorKey]), []);
});

test("both alphabets are read; fields that DSSE does not know are not", () => {
  const url = vector.envelope.signatures[0]!.sig.replaceAll("+", "-").replaceAll("/", "_");
  const other = { ...vector.envelope, signatures: [{ sig: url, keyid: "anything", cert: 1 }], more: null };
  deepEqual(readEnvelope(other), readEnvelope(vector.envelope));
});

test("lengths are those of bytes", () => {
  const envelope = { payload: text("é"), payloadType: "t", signatures: [] };
  equal(new TextDecoder().decode(signedBytes(envelope)), "DSSEv1 1 t 2 é");
});

const refused: [name: string, change: object][] = [
  ["white space in base64", { payload: "aGVs bG8gd29ybGQ=" }],
  ["base64 without padding", { payload: "aGVsbG8gd29ybGQ" }],
  ["both alphabets in one text", { payload: "-+==" }],
  ["stray bits", { payload: "aGVsbG8gd29ybGR=" }],
  ["a payload of 48 KiB and one byte", { payload: Buffer.alloc(48 * 1024 + 1).toString("base64") }],
  ["no type", { payloadType: undefined }],
  ["a type with a newline", { payloadType: "a\nb" }],
  ["65 signatures", { signatures: Array(65).fill({ sig: "AA==" }) }],
  ["a signature that is not text", { signatures: [{ sig: 1 }] }],
];
for (const [name, change] of refused) {
  test(`refused: ${name}`, () =>
    throws(() => readEnvelope({ ...vector.envelope, ...change }), { code: "envelope/malformed" }));
}

const owners = [signer("a"), signer("b"), signer("c", "p256"), signer("d", "p256")];
const keys = owners.map(({ publicKey }) => publicKey);
const unsigned = { payload: text("{}"), payloadType: "application/x" };

test("signers are the keys that signed: whatever the order, the copies and the rubbish between", async () => {
  const all = signedBy(unsigned, ...owners).signatures;
  const property = fc.asyncProperty(
    fc.array(fc.oneof(fc.nat(3), fc.uint8Array({ maxLength: 80 })), { maxLength: 12 }),
    async (picks) => {
      const signatures = picks.map((pick) => (typeof pick === "number" ? all[pick]! : pick));
      const expected = keys.filter((_, i) => picks.includes(i));
      deepEqual(await signersOf({ ...unsigned, signatures }, keys), expected);
    },
  );
  await fc.assert(property, { numRuns: 50 });
});

test("one key counts once: signing twice, or in another form", async () => {
  const [, , token] = owners;
  const once = signedBy(unsigned, token!).signatures[0]!;
  const envelope: Envelope = {
    ...unsigned,
    signatures: [once, once, otherForm(once), token!.sign(signedBytes(unsigned))],
  };
  deepEqual(await signersOf(envelope, keys), [token!.publicKey]);
  deepEqual(await signersOf({ ...unsigned, signatures: [otherForm(once)] }, keys), []);
});

test("enough signers are enough, and one signature is one key's", async () => {
  const [a, b, c] = owners;
  const envelope = signedBy(unsigned, c!, b!, a!);
  deepEqual(
    (await signersOf({ ...unsigned, payloadType: "application/y", signatures: [] }, keys, 1)).length,
    0,
  );
  for (let i = 0; i < 2; i++) equal((await signersOf(envelope, keys, 2)).length, 2);
  const twice = { type: "ed25519", key: a!.publicKey.key } as const;
  equal((await signersOf(signedBy(unsigned, a!), [a!.publicKey, twice])).length, 1);
});

test("what is written is read again", () => {
  const envelope = signedBy(unsigned, ...owners);
  deepEqual(readEnvelope(JSON.parse(JSON.stringify(writeEnvelope(envelope)))), envelope);
});
