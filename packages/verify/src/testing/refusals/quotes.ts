// SPDX-License-Identifier: Apache-2.0
/** What can be wrong with a quote. */
import { TestKey } from "@caisson/simulated/p256";
import { mint } from "@caisson/simulated/pki";
import type { ErrorCode } from "../../errors.ts";
import type { RefusalCase } from "../evidence.ts";
import { append, flip, put } from "./edits.ts";

/** Offsets in a quote of version 4: header 48, body 584, length 4, signature 64, key 64, envelope 6, QE report 384. */
const v4 = {
  body: 48,
  size: 632,
  signature: 636,
  key: 700,
  envelope: 764,
  qeReport: 770,
  qeSignature: 1154,
  authSize: 1218,
  chain: 1252,
};
const v4Case = (name: string, code: ErrorCode, quote: NonNullable<RefusalCase["quote"]>): RefusalCase => ({
  name,
  code,
  quote,
  format: "td10-v4",
});
const bodyFields = {
  teeTcbSvn: 0,
  mrSeam: 16,
  mrSignerSeam: 64,
  seamAttributes: 112,
  tdAttributes: 120,
  xfam: 128,
  mrTd: 136,
  mrConfigId: 184,
  mrOwner: 232,
  mrOwnerConfig: 280,
  rtmr0: 328,
  rtmr1: 376,
  rtmr2: 424,
  rtmr3: 472,
  reportData: 520,
};

export const quotes: RefusalCase[] = [
  v4Case("the quote is empty", "quote/truncated", () => new Uint8Array()),
  v4Case("the quote is one byte", "quote/truncated", (q) => q.subarray(0, 1)),
  v4Case("the quote ends inside the header", "quote/truncated", (q) => q.subarray(0, 47)),
  v4Case("the quote ends inside the body", "quote/truncated", (q) => q.subarray(0, 600)),
  v4Case("the quote ends before its signature", "quote/truncated", (q) => q.subarray(0, v4.signature)),
  v4Case("the quote lacks its last byte", "quote/truncated", (q) => q.subarray(0, -1)),
  v4Case("the quote is larger than any quote", "quote/size", (q) =>
    Buffer.concat([q, new Uint8Array(65536)]),
  ),
  v4Case("a byte other than zero follows the quote", "quote/trailing-bytes", append(0, 0, 1)),
  v4Case("another quote follows the quote", "quote/trailing-bytes", (q) => Buffer.concat([q, q])),
  v4Case("version 2", "quote/version", put(0, 2)),
  v4Case("version 6", "quote/unsupported", put(0, 6)),
  v4Case("version 260", "quote/version", put(1, 1)),
  v4Case("version 3 with a TDX TEE type", "quote/header", put(0, 3)),
  v4Case("key type 3 (P-384)", "quote/unsupported", put(2, 3)),
  v4Case("TEE type 0x80", "quote/header", put(4, 0x80)),
  v4Case("another QE vendor", "quote/header", flip(12)),
  v4Case("the signature data is one byte shorter than its content", "quote/signature-data", (q) => {
    const copy = Uint8Array.from(q.subarray(0, -1));
    new DataView(copy.buffer).setUint32(v4.size, copy.length - v4.signature, true);
    return copy;
  }),
  v4Case("the signature data is one byte longer than its content", "quote/signature-data", (q) => {
    const copy = Uint8Array.from([...q, 0]);
    new DataView(copy.buffer).setUint32(v4.size, copy.length - v4.signature, true);
    return copy;
  }),
  v4Case("the signature data claims 4 GiB", "quote/truncated", put(v4.size, 0xff, 0xff, 0xff, 0xff)),
  v4Case("the signature data is empty", "quote/trailing-bytes", put(v4.size, 0, 0, 0, 0)),
  v4Case("the outer certification data is of type 5", "quote/certification-data", put(v4.envelope, 5)),
  v4Case(
    "the outer certification data claims 4 GiB",
    "quote/signature-data",
    put(v4.envelope + 2, 0xff, 0xff, 0xff, 0xff),
  ),
  v4Case(
    "the authentication data claims 65535 bytes",
    "quote/certification-data",
    put(v4.authSize, 0xff, 0xff),
  ),
  v4Case("neither quote nor collateral has a PCK chain", "collateral/missing", put(v4.chain, 4)),
  {
    ...v4Case(
      "the inner certification data is of type 6, and the chain in the collateral",
      "quote/certification-data",
      put(v4.chain, 6),
    ),
    collateral: (_, h) => ({ pck_certificate_chain: mint(h).pckChain }),
  },
  v4Case(
    "the inner certification data claims 4 GiB",
    "quote/certification-data",
    put(v4.chain + 2, 0xff, 0xff, 0xff, 0xff),
  ),
  v4Case("the signature is changed", "quote/signature", flip(v4.signature)),
  v4Case("the signature is zero", "quote/signature", put(v4.signature, ...new Uint8Array(64))),
  v4Case("the attestation key is changed", "qe/report-data", flip(v4.key)),
  v4Case("the authentication data is changed", "qe/report-data", flip(v4.authSize + 2)),
  v4Case("the QE report is changed", "qe/signature", flip(v4.qeReport)),
  v4Case("the QE report's signature is changed", "qe/signature", flip(v4.qeSignature + 63)),
  v4Case("the header's user data is changed", "quote/signature", flip(28)),
  ...Object.entries(bodyFields)
    .filter(([field]) => !["teeTcbSvn", "mrSignerSeam", "seamAttributes"].includes(field))
    .map(([field, offset]) =>
      v4Case(`${field} is changed after signing`, "quote/signature", flip(v4.body + offset)),
    ),
  { name: "version 5 with body type 4", code: "quote/body", quote: put(48, 4) },
  { name: "version 5 with body type 5", code: "quote/unsupported", quote: put(48, 5) },
  {
    name: "an extended body with one bit changed",
    code: "quote/signature",
    format: "td15ex-v5",
    quote: flip(48 + 6 + 884),
  },
  { name: "version 5 with body type 0", code: "quote/body", quote: put(48, 0) },
  { name: "version 5 with the SGX body type in a TDX quote", code: "quote/body", quote: put(48, 1) },
  { name: "version 5 with a body size that is not its type's", code: "quote/body", quote: put(50, 0x48) },
  { name: "version 5 with TD 1.0 declared over a TD 1.5 body", code: "quote/body", quote: put(48, 2) },
  {
    name: "version 5 with mrServiceTd changed after signing",
    code: "quote/signature",
    quote: flip(54 + 600),
  },
  { name: "version 5 with teeTcbSvn2 changed after signing", code: "quote/signature", quote: flip(54 + 584) },
  { name: "version 5 relabelled as version 4", code: "quote/trailing-bytes", quote: put(0, 4) },
  {
    name: "an SGX quote with its report changed",
    code: "quote/signature",
    format: "sgx-v3",
    quote: flip(48 + 64),
  },
  { name: "an SGX quote with a TEE type", code: "quote/header", format: "sgx-v3", quote: put(4, 0x81) },
  {
    name: "the attestation key is not a point, and the QE vouches for it",
    code: "quote/key",
    before: (h) => {
      const bad = new TestKey(7n);
      (bad as { publicKey: Uint8Array }).publicKey = flip(64)(bad.publicKey);
      h.keys.attestation = bad;
    },
  },
];
