// SPDX-License-Identifier: Apache-2.0
/** Parsers of host-controlled bytes: whatever comes in, either a value or a VerifyError comes out; never anything else. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { issueCertificate, issueCrl } from "@caisson/simulated/certificates";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { fromBase64, fromHex, toBase64, toHex } from "@caisson/vocabulary/bytes";
import fc from "fast-check";
import { VerifyError } from "./errors.ts";
import { readEvidenceDocument } from "./evidence/formats/caisson.ts";
import { readDstackQuote } from "./evidence/formats/dstack.ts";
import { readEvidence } from "./evidence/formats/forms.ts";
import { verifyQuote } from "./intel/genuine.ts";
import { parsePckExtension } from "./intel/pck.ts";
import { parseQuote } from "./intel/quote.ts";
import { parseCrl } from "./pki/crl.ts";
import { DerReader, tag } from "./pki/der.ts";
import { der, integer } from "./pki/der-writer.ts";
import { parsePemChain } from "./pki/pem.ts";
import { parseCertificate } from "./pki/x509.ts";
import { readPolicy } from "./policy/policy.ts";
import { readReferences } from "./policy/reference.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const now = new Date("2026-06-01T00:00:00Z");
const h = hierarchy("properties", times);
const { collateral, pckChain, trust } = mint(h);
const quote = issueQuote(h, pckChain, {}, "td10-v4");

function refusesOrReads(read: () => unknown): void {
  try {
    read();
  } catch (error) {
    ok(error instanceof VerifyError, String(error));
  }
}

const valid: [name: string, bytes: Uint8Array, parse: (bytes: Uint8Array) => unknown][] = [
  ["quote", quote, parseQuote],
  ["certificate", issueCertificate(h.pck), parseCertificate],
  ["CRL", issueCrl(h.pckCrl), parseCrl],
  ["SGX extension", h.pck.extensions.at(-1)!.value, parsePckExtension],
  ["PEM chain", Buffer.from(pckChain), (bytes) => parsePemChain(Buffer.from(bytes).toString("latin1"))],
];
for (const [name, bytes, parse] of valid) {
  test(`${name}: every truncation is refused`, () => {
    // The quote's chain ends with a line break that is not needed, hence the last byte may go there.
    for (let size = 0; size < bytes.length - 1; size++) {
      let read = false;
      refusesOrReads(() => {
        parse(bytes.subarray(0, size));
        read = true;
      });
      // A PEM text cut between two blocks is a shorter chain, which the caller refuses by its length.
      if (read) equal(name, "PEM chain", `${size} bytes`);
    }
  });
  test(`${name}: arbitrary changes are read or refused, never anything else`, () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        (changes) => {
          const copy = Uint8Array.from(bytes);
          for (const [at, value] of changes) copy[at] = value;
          refusesOrReads(() => parse(copy));
        },
      ),
      { numRuns: 300 },
    );
  });
  test(`${name}: arbitrary bytes are read or refused`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (input) => refusesOrReads(() => parse(input))),
      { numRuns: 300 },
    );
  });
}

const readers: [name: string, read: (value: unknown) => unknown][] = [
  ["evidence document", readEvidenceDocument],
  ["dstack answer", readDstackQuote],
  ["policy", readPolicy],
  ["references", (value) => readReferences(value, "x")],
];
for (const [name, read] of readers) {
  test(`${name}: arbitrary values are read or refused`, () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => refusesOrReads(() => read(value))),
      { numRuns: 300 },
    );
  });
}

test("evidence: arbitrary bytes are read or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (input) => refusesOrReads(() => readEvidence(input))),
  );
});

test("DER: what is written is read, and only that spelling of it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), (bytes) => {
      const stripped = bytes.subarray(bytes.findIndex((byte) => byte !== 0));
      const expected = bytes.every((byte) => byte === 0) ? Uint8Array.of(0) : stripped;
      const encoding = integer(bytes);
      deepEqual(toHex(new DerReader(encoding).unsigned()), toHex(expected));
      // The same number with a leading zero more.
      const padded = der(tag.integer, Uint8Array.of(0), encoding.subarray(2));
      refusesOrReads(() => {
        new DerReader(padded).unsigned();
        throw new Error("a second spelling was read");
      });
    }),
  );
});

test("hexadecimal and base64 round trip, and have one spelling", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      deepEqual(fromHex(toHex(bytes)), bytes);
      deepEqual(fromBase64(toBase64(bytes)), bytes);
    }),
  );
  for (const text of ["a", "zz", "0g"]) equal(fromHex(text), undefined);
  for (const text of ["a", "AA=", "AB==", "AA==\n", "A A=", "-_=="]) equal(fromBase64(text), undefined, text);
});

test("a sample of bit flips in the signed region of a quote: none is accepted (all of them: test/integration)", async () => {
  const signed = 632;
  for (let at = 0; at < signed; at += 9) {
    const copy = Uint8Array.from(quote);
    copy[at]! ^= 1 << (at % 8);
    let accepted = true;
    try {
      await verifyQuote(copy, collateral, now, trust);
    } catch (error) {
      ok(error instanceof VerifyError);
      accepted = false;
    }
    equal(accepted, false, `byte ${at}`);
  }
});
