// SPDX-License-Identifier: Apache-2.0
/**
 * Wrong evidence: one wrong thing at a time, in evidence that is right otherwise, with the code that must refuse it.
 * Documents are signed after the change wherever that is possible, so that the one thing wrong is the only one.
 */

import { TestKey } from "@caisson/simulated/p256";
import {
  type CertificateSpec,
  type CrlSpec,
  type Hierarchy,
  hierarchy,
  issueCertificate,
  issueCrl,
  issueQuote,
  type Minted,
  mint,
  type PckSpec,
  type QuoteFormat,
  sgxExtension,
  type TdSpec,
} from "@caisson/simulated/pki";
import type { ErrorCode } from "../errors.ts";
import type { Collateral } from "../intel/collateral.ts";
import { DerReader, tag } from "../pki/der.ts";
import { bitString, der, integer, oid, sequence, toPem } from "../pki/der-writer.ts";
import type { TrustAnchor } from "../pki/x509.ts";

export const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
export const now = new Date("2026-06-01T00:00:00Z");
const second = 1000;

export interface RefusalCase {
  name: string;
  code: ErrorCode;
  format?: QuoteFormat;
  /** Changes what is signed. */
  before?: (h: Hierarchy) => void;
  /** Changes what was signed. */
  chain?: (minted: Minted, h: Hierarchy) => string;
  collateral?: (collateral: Collateral, h: Hierarchy) => Partial<Collateral>;
  quote?: (quote: Uint8Array) => Uint8Array;
  td?: Partial<TdSpec>;
  now?: Date;
  trust?: TrustAnchor;
}

const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const other = TestKey.derive("someone else", "key");
const after = (date: Date, ms: number) => new Date(date.getTime() + ms);

/** Rebuilds a SEQUENCE with one of its values changed. */
function edit(encoding: Uint8Array, index: number, change: (value: Uint8Array) => Uint8Array): Uint8Array {
  const reader = new DerReader(encoding).enter(tag.sequence);
  const values: Uint8Array[] = [];
  while (reader.more) values.push(reader.any().encoding);
  return sequence(...values.map((value, i) => (i === index ? change(value) : value)));
}
const replaceWith = (bytes: number[] | Uint8Array) => () => Uint8Array.from(bytes);

/** Replaces the first occurrence of some bytes (hexadecimal) by as many others. */
function swap(from: string, to: string): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => {
    const at = Buffer.from(bytes).indexOf(Buffer.from(from, "hex"));
    if (at < 0) throw new Error(`${from} is not there`);
    const copy = Uint8Array.from(bytes);
    copy.set(Buffer.from(to, "hex"), at);
    return copy;
  };
}
const flip = (offset: number) => (bytes: Uint8Array) => {
  const copy = Uint8Array.from(bytes);
  copy[offset < 0 ? copy.length + offset : offset]! ^= 1;
  return copy;
};
const append =
  (...extra: number[]) =>
  (bytes: Uint8Array) =>
    Uint8Array.from([...bytes, ...extra]);
const put =
  (offset: number, ...values: number[]) =>
  (bytes: Uint8Array) => {
    const copy = Uint8Array.from(bytes);
    copy.set(values, offset);
    return copy;
  };
/** The same value with one more byte of length than it needs: 30 82 … becomes 30 83 00 …. */
const longerLength = (encoding: Uint8Array) =>
  Uint8Array.from([encoding[0]!, encoding[1]! + 1, 0, ...encoding.subarray(2)]);

const withoutExtension = (spec: { extensions: { oid: string }[] }, id: string) => {
  spec.extensions = spec.extensions.filter((extension) => extension.oid !== id) as never;
};
const setExtension = (spec: CertificateSpec | CrlSpec, id: string, value: Uint8Array) => {
  for (const extension of spec.extensions) if (extension.oid === id) extension.value = value;
};

const ids = {
  ski: "2.5.29.14",
  usage: "2.5.29.15",
  constraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  distribution: "2.5.29.31",
  aki: "2.5.29.35",
};
const yes = der(tag.boolean, Uint8Array.of(0xff));

type Change<T> = [what: string, code: ErrorCode, change: (spec: T) => void];

/** What can be wrong with any certificate. */
const certificateChanges: Change<CertificateSpec>[] = [
  ["has expired", "chain/expired", (c) => void (c.notAfter = after(now, -second))],
  ["is not valid yet", "chain/not-yet-valid", (c) => void (c.notBefore = after(now, second))],
  ["has another common name", "chain/name", (c) => void (c.subject = "Intel SGX Something")],
  ["names another issuer", "chain/issuer", (c) => void (c.issuer = "Intel SGX Other CA")],
  [
    "names another issuer key",
    "chain/issuer",
    (c) => setExtension(c, ids.aki, sequence(der(0x80, new Uint8Array(20)))),
  ],
  ["names no issuer key", "chain/extension", (c) => withoutExtension(c, ids.aki)],
  ["names an issuer, but no key of it", "chain/issuer", (c) => setExtension(c, ids.aki, sequence())],
  ["has no subject key identifier", "chain/extension", (c) => withoutExtension(c, ids.ski)],
  ["has no CRL distribution point", "chain/extension", (c) => withoutExtension(c, ids.distribution)],
  [
    "has a common name that would move a terminal's cursor",
    "certificate/malformed",
    (c) => void (c.subject = `${c.subject}\x1b[2K`),
  ],
  [
    "has a common name of 65 characters",
    "certificate/malformed",
    (c) => void (c.subject = c.subject.padEnd(65)),
  ],
  [
    "has a byte order mark before its common name",
    "certificate/malformed",
    (c) => void (c.subject = `\uFEFF${c.subject}`),
  ],
  ["is signed by another key", "chain/signature", (c) => void (c.issuerKey = other)],
  ["has a changed signature", "chain/signature", (c) => void (c.corrupt = flip(-1))],
  ["has no key usage", "chain/extension", (c) => withoutExtension(c, ids.usage)],
  ["has no basic constraints", "chain/extension", (c) => withoutExtension(c, ids.constraints)],
  ["may only encipher", "chain/key-usage", (c) => setExtension(c, ids.usage, Uint8Array.of(3, 2, 5, 0x20))],
  [
    "encodes key usage with trailing zeros",
    "der/malformed",
    (c) => setExtension(c, ids.usage, Uint8Array.of(3, 2, 0, 0x80)),
  ],
  [
    "has a path length of 7",
    "chain/constraints",
    (c) => setExtension(c, ids.constraints, sequence(yes, integer(7))),
  ],
  [
    "has a path length without being a CA",
    "chain/constraints",
    (c) => setExtension(c, ids.constraints, sequence(integer(0))),
  ],
  [
    "encodes CA FALSE",
    "chain/extension",
    (c) => setExtension(c, ids.constraints, sequence(der(tag.boolean, Uint8Array.of(0)))),
  ],
  [
    "has an unknown critical extension",
    "chain/extension",
    (c) => void c.extensions.push({ oid: "1.2.3.4", critical: true, value: sequence() }),
  ],
  ["has an extension twice", "chain/extension", (c) => void c.extensions.push(c.extensions[0]!)],
  [
    "has serial number 0",
    "certificate/malformed",
    (c) => void (c.patch = (t) => edit(t, 1, replaceWith([2, 1, 0]))),
  ],
  [
    "has a negative serial number",
    "der/malformed",
    (c) => void (c.patch = (t) => edit(t, 1, replaceWith([2, 1, 0x80]))),
  ],
  [
    "has a serial number that is not minimal",
    "der/malformed",
    (c) => void (c.patch = (t) => edit(t, 1, replaceWith([2, 2, 0, 1]))),
  ],
  [
    "has a serial number of 21 bytes",
    "certificate/malformed",
    (c) => void (c.serial = new Uint8Array(21).fill(1)),
  ],
  [
    "is X.509 version 2",
    "certificate/malformed",
    (c) => void (c.patch = (t) => edit(t, 0, () => der(0xa0, integer(1)))),
  ],
  [
    "names SHA-384 inside and SHA-256 outside",
    "certificate/malformed",
    (c) => void (c.patch = (t) => edit(t, 2, () => sequence(oid("1.2.840.10045.4.3.3")))),
  ],
  [
    "gives its algorithm a parameter",
    "der/malformed",
    (c) => void (c.patch = (t) => edit(t, 2, () => sequence(oid("1.2.840.10045.4.3.2"), der(tag.null)))),
  ],
  [
    "has a time without seconds",
    "der/malformed",
    (c) =>
      void (c.patch = (t) =>
        edit(t, 4, () => {
          const time = der(tag.utcTime, Buffer.from("2601010000Z"));
          return sequence(time, time);
        })),
  ],
  [
    "is valid from the 30th of February",
    "der/malformed",
    (c) => void (c.patch = swap("323630313031", "323630323330")),
  ],
  [
    "writes a year before 2050 as GeneralizedTime",
    "der/malformed",
    (c) =>
      void (c.patch = (t) =>
        edit(t, 4, (v) => edit(v, 0, () => der(tag.generalizedTime, Buffer.from("20260101000000Z"))))),
  ],
  [
    "has a compressed key",
    "chain/key",
    (c) =>
      void (c.patch = (t) =>
        edit(t, 6, (v) => edit(v, 1, () => bitString(Uint8Array.of(2, ...c.key.publicKey.subarray(1, 33)))))),
  ],
  [
    "has a key on another curve",
    "chain/key",
    (c) => void (c.patch = swap("2a8648ce3d030107", "2a8648ce3d030106")),
  ],
  ["writes TRUE as 01", "der/malformed", (c) => void (c.patch = swap("0101ff", "010101"))],
  ["encodes critical FALSE", "chain/extension", (c) => void (c.patch = swap("0101ff", "010100"))],
  ["has a length that is not minimal", "der/malformed", (c) => void (c.corrupt = longerLength)],
  ["has an indefinite length", "der/malformed", (c) => void (c.corrupt = put(1, 0x80))],
  ["is followed by a byte", "der/malformed", (c) => void (c.corrupt = append(0))],
  ["lacks its last byte", "der/malformed", (c) => void (c.corrupt = (e) => e.subarray(0, -1))],
];

const certificates: RefusalCase[] = (["root", "pckCa", "pck", "tcbSigner"] as const).flatMap((role) =>
  certificateChanges.map(([what, code, change]) => ({
    name: `the ${role} certificate ${what}`,
    code,
    before: (h: Hierarchy) => change(h[role]),
  })),
);

/** What can be wrong with either revocation list. */
const crlChanges: Change<CrlSpec>[] = [
  ["has expired", "crl/expired", (c) => void (c.nextUpdate = after(now, -second))],
  ["is not valid yet", "crl/not-yet-valid", (c) => void (c.thisUpdate = after(now, second))],
  ["comes from another issuer", "crl/issuer", (c) => void (c.issuer = "Intel SGX Other CA")],
  [
    "names another issuer key",
    "crl/issuer",
    (c) => setExtension(c, ids.aki, sequence(der(0x80, new Uint8Array(20)))),
  ],
  ["names no issuer key", "crl/extension", (c) => withoutExtension(c, ids.aki)],
  ["has no number", "crl/extension", (c) => withoutExtension(c, ids.crlNumber)],
  ["has no extensions", "crl/extension", (c) => void (c.extensions = [])],
  ["is signed by another key", "crl/signature", (c) => void (c.issuerKey = other)],
  ["has a changed signature", "crl/signature", (c) => void (c.corrupt = flip(-1))],
  [
    "is a delta (critical indicator)",
    "crl/extension",
    (c) => void c.extensions.push({ oid: "2.5.29.27", critical: true, value: integer(1) }),
  ],
  [
    "covers one distribution point only (critical)",
    "crl/extension",
    (c) => void c.extensions.push({ oid: "2.5.29.28", critical: true, value: sequence() }),
  ],
  ["has an extension twice", "chain/extension", (c) => void c.extensions.push(c.extensions[0]!)],
  ["is version 1", "crl/malformed", (c) => void (c.patch = (t) => edit(t, 0, () => integer(0)))],
  [
    "names SHA-384",
    "certificate/malformed",
    (c) => void (c.patch = (t) => edit(t, 1, () => sequence(oid("1.2.840.10045.4.3.3")))),
  ],
  ["has no next update", "der/malformed", (c) => void (c.patch = (t) => edit(t, 4, () => new Uint8Array()))],
  ["is followed by a byte", "der/malformed", (c) => void (c.corrupt = append(0))],
  ["lacks its last byte", "der/malformed", (c) => void (c.corrupt = (e) => e.subarray(0, -1))],
  ["has a length that is not minimal", "der/malformed", (c) => void (c.corrupt = longerLength)],
];

/** Of a second certificate for the PCK CA's key. */
const otherSerial = Uint8Array.of(0x11, 0x22, 0x33);

const splitPem = (pem: string) => pem.match(/-----BEGIN[^]*?-----END CERTIFICATE-----\n/g) as string[];

const crls: RefusalCase[] = [
  ...(["rootCrl", "pckCrl"] as const).flatMap((list) =>
    crlChanges.map(([what, code, change]) => ({
      name: `the ${list} ${what}`,
      code,
      before: (h: Hierarchy) => change(h[list]),
    })),
  ),
  {
    name: "the PCK is revoked",
    code: "certificate/revoked",
    before: (h) => void h.pckCrl.revoked.push(h.pck.serial),
  },
  {
    name: "the PCK is revoked among others",
    code: "certificate/revoked",
    before: (h) => void h.pckCrl.revoked.push(Uint8Array.of(1), h.pck.serial, Uint8Array.of(2)),
  },
  {
    name: "the PCK CA is revoked",
    code: "certificate/revoked",
    before: (h) => void h.rootCrl.revoked.push(h.pckCa.serial),
  },
  {
    name: "the TCB signer is revoked",
    code: "certificate/revoked",
    before: (h) => void h.rootCrl.revoked.push(h.tcbSigner.serial),
  },
  {
    name: "the PCK CA certificate of the quote's own chain is revoked, that of the collateral is not",
    code: "certificate/revoked",
    before: (h) => void h.rootCrl.revoked.push(otherSerial),
    chain: (m, h) => {
      const [leaf, , root] = splitPem(m.pckChain) as [string, string, string];
      return leaf + toPem(issueCertificate({ ...h.pckCa, serial: otherSerial })) + root;
    },
  },
  {
    name: "the PCK CA certificate of the collateral is revoked, that of the quote's own chain is not",
    code: "certificate/revoked",
    before: (h) => void h.rootCrl.revoked.push(h.pckCa.serial),
    chain: (m, h) => {
      const [leaf, , root] = splitPem(m.pckChain) as [string, string, string];
      return leaf + toPem(issueCertificate({ ...h.pckCa, serial: otherSerial })) + root;
    },
  },
  { name: "the root CRL is empty", code: "collateral/malformed", collateral: () => ({ root_ca_crl: "" }) },
  { name: "the PCK CRL is empty", code: "collateral/malformed", collateral: () => ({ pck_crl: "" }) },
  { name: "the root CRL is garbage", code: "der/malformed", collateral: () => ({ root_ca_crl: "deadbeef" }) },
  { name: "the PCK CRL is garbage", code: "der/malformed", collateral: () => ({ pck_crl: "deadbeef" }) },
  { name: "the PCK CRL is the root's", code: "crl/issuer", collateral: (c) => ({ pck_crl: c.root_ca_crl }) },
  {
    name: "the root CRL is the PCK CA's",
    code: "crl/issuer",
    collateral: (c) => ({ root_ca_crl: c.pck_crl }),
  },
  {
    name: "the PCK CRL is a certificate",
    code: "der/malformed",
    collateral: (_, h) => ({ pck_crl: toHex(issueCertificate(h.pck)) }),
  },
  {
    name: "the PCK CRL is that of the processor CA, the PCK one of the platform CA",
    code: "crl/issuer",
    collateral: (_, h) => {
      const key = TestKey.derive("processor", "ca");
      const processor = hierarchy("processor", times);
      const name = "Intel SGX PCK Processor CA";
      const aki = { oid: ids.aki, value: h.pckCa.extensions[0]!.value };
      const certificate: CertificateSpec = { ...processor.pckCa, subject: name, key, issuerKey: h.keys.root };
      certificate.extensions = [aki, ...certificate.extensions.slice(1)];
      const keyId = certificate.extensions[1]!.value.subarray(2);
      const crl: CrlSpec = { ...processor.pckCrl, issuer: name, issuerKey: key };
      crl.extensions = [crl.extensions[0]!, { oid: ids.aki, value: sequence(der(0x80, keyId)) }];
      const root = issueCertificate(h.root);
      return {
        pck_crl_issuer_chain: toPem(issueCertificate(certificate), root),
        pck_crl: toHex(issueCrl(crl)),
      };
    },
  },
  {
    name: "the PCK CRL is that of a second CA of the same name, whose list does not have the revoked PCK",
    code: "crl/issuer",
    before: (h) => void h.pckCrl.revoked.push(h.pck.serial),
    collateral: (_, h) => {
      const { pckCa, pckCrl, keys } = hierarchy("second", times);
      const root = issueCertificate(h.root);
      const issuerIsRoot = { issuerKey: h.keys.root, extensions: [...pckCa.extensions] };
      issuerIsRoot.extensions[0] = h.pckCa.extensions[0]!;
      return {
        pck_crl_issuer_chain: toPem(issueCertificate({ ...pckCa, ...issuerIsRoot, key: keys.pckCa }), root),
        pck_crl: toHex(issueCrl(pckCrl)),
      };
    },
  },
];

const chains: RefusalCase[] = [
  {
    name: "the PCK chain has no root",
    code: "chain/length",
    chain: (m) => splitPem(m.pckChain).slice(0, 2).join(""),
  },
  { name: "the PCK chain is the leaf alone", code: "chain/length", chain: (m) => splitPem(m.pckChain)[0]! },
  {
    name: "the PCK chain has its root twice",
    code: "chain/length",
    chain: (m) => m.pckChain + splitPem(m.pckChain)[2]!,
  },
  {
    name: "the PCK chain has five certificates",
    code: "pem/malformed",
    chain: (m) => m.pckChain + splitPem(m.pckChain).slice(1).join(""),
  },
  {
    name: "the PCK chain runs from root to leaf",
    code: "chain/untrusted-root",
    chain: (m) => splitPem(m.pckChain).reverse().join(""),
  },
  {
    name: "the PCK chain has leaf and CA swapped",
    code: "chain/name",
    chain: (m) => {
      const [leaf, ca, root] = splitPem(m.pckChain) as [string, string, string];
      return ca + leaf + root;
    },
  },
  {
    name: "the PCK chain has the leaf twice",
    code: "chain/name",
    chain: (m) => {
      const [leaf, , root] = splitPem(m.pckChain) as [string, string, string];
      return leaf + leaf + root;
    },
  },
  {
    name: "the PCK chain has the CA for its root",
    code: "chain/untrusted-root",
    chain: (m) => {
      const [leaf, ca] = splitPem(m.pckChain) as [string, string, string];
      return leaf + ca + ca;
    },
  },
  { name: "the PCK chain is empty", code: "chain/length", chain: () => "" },
  {
    name: "the PCK chain has a byte order mark before it",
    code: "pem/malformed",
    chain: (m) => `\uFEFF${m.pckChain}`,
  },
  { name: "the PCK chain is not PEM", code: "pem/malformed", chain: () => "certificates" },
  {
    name: "the PCK chain has text between its blocks",
    code: "pem/malformed",
    chain: (m) => splitPem(m.pckChain).join("hello\n"),
  },
  { name: "the PCK chain ends in two NULs", code: "pem/malformed", chain: (m) => `${m.pckChain}\0\0` },
  {
    name: "the PCK chain lacks its last line",
    code: "pem/malformed",
    chain: (m) => m.pckChain.slice(0, -30),
  },
  {
    name: "the PCK chain has a stray base64 letter",
    code: "pem/malformed",
    chain: (m) => m.pckChain.replace("=\n", "\n") && m.pckChain.replace("MII", "MI!"),
  },
  {
    name: "the leaf is self-issued with Intel's name",
    code: "chain/issuer",
    before: (h) => void Object.assign(h.pck, { issuer: h.pck.subject, issuerKey: h.keys.pck }),
  },
  {
    name: "the whole chain is another hierarchy's",
    code: "chain/untrusted-root",
    chain: () => mint(hierarchy("another", times)).pckChain,
  },
  {
    name: "leaf and CA are another hierarchy's, the root is ours",
    code: "chain/issuer",
    chain: (m) =>
      splitPem(mint(hierarchy("another", times)).pckChain)
        .slice(0, 2)
        .join("") + splitPem(m.pckChain)[2]!,
  },
  {
    name: "the leaf was issued by the root",
    code: "chain/issuer",
    before: (h) => void Object.assign(h.pck, { issuer: h.root.subject, issuerKey: h.keys.root }),
  },
  {
    name: "the leaf was issued by the TCB signer",
    code: "chain/name",
    chain: (m, h) =>
      toPem(issueCertificate({ ...h.pck, issuer: h.tcbSigner.subject, issuerKey: h.keys.tcbSigner })) +
      splitPem(m.collateral.tcb_info_issuer_chain).join(""),
  },
  {
    name: "another root is trusted",
    code: "chain/untrusted-root",
    trust: { name: "another", rootKey: other.publicKey },
  },
  {
    name: "the PCK CRL chain is the TCB signer's",
    code: "chain/name",
    collateral: (c) => ({ pck_crl_issuer_chain: c.tcb_info_issuer_chain }),
  },
  {
    name: "the TCB info chain is the PCK CA's",
    code: "chain/name",
    collateral: (c) => ({ tcb_info_issuer_chain: c.pck_crl_issuer_chain }),
  },
  {
    name: "the QE identity chain is the PCK CA's",
    code: "chain/name",
    collateral: (c) => ({ qe_identity_issuer_chain: c.pck_crl_issuer_chain }),
  },
  {
    name: "the PCK CRL chain has three certificates",
    code: "chain/length",
    collateral: (c, h) => ({ pck_crl_issuer_chain: toPem(issueCertificate(h.pck)) + c.pck_crl_issuer_chain }),
  },
  {
    name: "the QE identity's signer is another hierarchy's",
    code: "chain/untrusted-root",
    collateral: () => ({
      qe_identity_issuer_chain: mint(hierarchy("another", times)).collateral.qe_identity_issuer_chain,
    }),
  },
];

const sgx: PckSpec = {
  ppid: "00".repeat(16),
  sgxSvns: [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
  pceSvn: 13,
  pceId: "0000",
  fmspc: "ca1550000000",
};
const sgxOid = "1.2.840.113741.1.13.1";
const withSgx = (value: Uint8Array) => (h: Hierarchy) => setExtension(h.pck, sgxOid, value);

const pck: RefusalCase[] = [
  {
    name: "the PCK has no SGX extension",
    code: "pck/extension",
    before: (h) => withoutExtension(h.pck, sgxOid),
  },
  {
    // Its profile says "non-critical", and what checks chains does not know it.
    name: "the SGX extension is critical",
    code: "chain/extension",
    before: (h) => h.pck.extensions.forEach((extension) => (extension.critical ||= extension.oid === sgxOid)),
  },
  { name: "the SGX extension is empty", code: "pck/extension", before: withSgx(sequence()) },
  { name: "the SGX extension is garbage", code: "der/malformed", before: withSgx(Uint8Array.of(1, 2, 3)) },
  ...[0, 1, 2, 3, 4].map(
    (index): RefusalCase => ({
      name: `the SGX extension has another field in place of .${index + 1}`,
      code: "pck/extension",
      before: withSgx(edit(sgxExtension(sgx), index, () => sequence(oid(`${sgxOid}.9`), integer(0)))),
    }),
  ),
  {
    name: "the SGX extension has four fields",
    code: "pck/extension",
    before: withSgx(edit(sgxExtension(sgx), 4, replaceWith([]))),
  },
  {
    name: "the SGX extension has six fields",
    code: "pck/extension",
    before: withSgx(
      edit(sgxExtension(sgx), 4, (v) => Buffer.concat([v, sequence(oid(`${sgxOid}.6`), integer(0))])),
    ),
  },
  {
    name: "the SGX type is not an enumerated value",
    code: "der/malformed",
    before: withSgx(edit(sgxExtension(sgx), 4, () => sequence(oid(`${sgxOid}.5`), integer(0)))),
  },
  {
    name: "an SGX SVN is above 255",
    code: "der/malformed",
    before: withSgx(sgxExtension({ ...sgx, sgxSvns: [256, ...sgx.sgxSvns.slice(1)] })),
  },
  {
    name: "the SGX extension has a field twice",
    code: "pck/extension",
    before: withSgx(edit(sgxExtension(sgx), 0, (v) => Uint8Array.from([...v, ...v]))),
  },
  {
    name: "the FMSPC has 5 bytes",
    code: "pck/extension",
    before: withSgx(sgxExtension({ ...sgx, fmspc: "ca15500000" })),
  },
  {
    name: "the PCE id has 3 bytes",
    code: "pck/extension",
    before: withSgx(sgxExtension({ ...sgx, pceId: "000000" })),
  },
  {
    name: "the PPID has 15 bytes",
    code: "pck/extension",
    before: withSgx(sgxExtension({ ...sgx, ppid: "00".repeat(15) })),
  },
  {
    name: "an SVN is missing",
    code: "pck/extension",
    before: withSgx(sgxExtension({ ...sgx, sgxSvns: sgx.sgxSvns.slice(1) })),
  },
  {
    name: "an SVN is above 65535",
    code: "der/malformed",
    before: withSgx(sgxExtension({ ...sgx, pceSvn: 65536 })),
  },
  {
    name: "a byte follows the SGX extension",
    code: "der/malformed",
    before: withSgx(append(0)(sgxExtension(sgx))),
  },
  {
    name: "the platform has another FMSPC",
    code: "tcb-info/fmspc",
    before: withSgx(sgxExtension({ ...sgx, fmspc: "ca1550000001" })),
  },
  {
    name: "the platform has another PCE id",
    code: "tcb-info/pceid",
    before: withSgx(sgxExtension({ ...sgx, pceId: "0100" })),
  },
  {
    name: "an SGX SVN is below every level",
    code: "tcb/no-level",
    before: withSgx(sgxExtension({ ...sgx, sgxSvns: [2, ...sgx.sgxSvns.slice(1)] })),
  },
  {
    name: "the PCE SVN is below every level",
    code: "tcb/no-level",
    before: withSgx(sgxExtension({ ...sgx, pceSvn: 12 })),
  },
];

type Json = Record<string, unknown>;
/** Changes of a signed JSON document, before it is signed. */
const info = (change: (tcbInfo: Json) => unknown) => (h: Hierarchy) => void change(h.tcbInfo as Json);
const identity = (change: (qeIdentity: Json) => unknown) => (h: Hierarchy) =>
  void change(h.qeIdentity as Json);
const set = (fields: object) => (document: Json) => Object.assign(document, fields);
const drop = (field: string) => (document: Json) => delete document[field];
const levels = (document: Json) => document.tcbLevels as { tcb: Json; tcbStatus: string }[];
const module = (document: Json) => (document.tdxModuleIdentities as Json[])[0]!;
const iso = (date: Date) => date.toISOString().replace(".000Z", "Z");

const signedJson: RefusalCase[] = (
  [
    ["TCB info", "tcb_info", "tcb-info", info],
    ["QE identity", "qe_identity", "qe-identity", identity],
  ] as const
).flatMap(([what, field, area, change]): RefusalCase[] => [
  {
    name: `the ${what} has one more space`,
    code: `${area}/signature`,
    collateral: (c) => ({ [field]: `${c[field]} ` }),
  },
  {
    name: `the ${what} has its status changed`,
    code: `${area}/signature`,
    collateral: (c) => ({ [field]: c[field].replace("UpToDate", "UpToDatE") }),
  },
  {
    name: `the ${what} has a changed signature`,
    code: `${area}/signature`,
    collateral: (c) => ({
      [`${field}_signature`]: toHex(flip(63)(Buffer.from(c[`${field}_signature`], "hex"))),
    }),
  },
  {
    name: `the ${what} has a zero signature`,
    code: `${area}/signature`,
    collateral: () => ({ [`${field}_signature`]: "00".repeat(64) }),
  },
  {
    name: `the ${what} has a signature of 63 bytes`,
    code: "collateral/malformed",
    collateral: () => ({ [`${field}_signature`]: "00".repeat(63) }),
  },
  {
    name: `the ${what} is signed by the PCK CA`,
    code: `${area}/signature`,
    collateral: (c, h) => ({ [`${field}_signature`]: toHex(h.keys.pckCa.sign(Buffer.from(c[field]))) }),
  },
  {
    name: `the ${what} is signed, but no JSON`,
    code: "json/malformed",
    collateral: (_, h) => ({
      [field]: "{nonsense",
      [`${field}_signature`]: toHex(h.keys.tcbSigner.sign(Buffer.from("{nonsense"))),
    }),
  },
  { name: `the ${what} is missing`, code: "collateral/malformed", collateral: () => ({ [field]: "" }) },
  {
    name: `the ${what} has expired`,
    code: `${area}/expired`,
    before: change(set({ nextUpdate: iso(after(now, -second)) })),
  },
  {
    name: `the ${what} is from the future`,
    code: `${area}/not-yet-valid`,
    before: change(set({ issueDate: iso(after(now, second)) })),
  },
  {
    name: `the ${what} has an unknown version`,
    code: `${area}/version`,
    before: change(set({ version: 99 })),
  },
  { name: `the ${what} has no version`, code: `${area}/malformed`, before: change(drop("version")) },
  {
    name: `the ${what} has a malformed date`,
    code: `${area}/malformed`,
    before: change(set({ nextUpdate: "2027-01-01" })),
  },
  {
    name: `the ${what} has a date that does not exist`,
    code: `${area}/malformed`,
    before: change(set({ nextUpdate: "2027-02-30T00:00:00Z" })),
  },
  { name: `the ${what} has no next update`, code: `${area}/malformed`, before: change(drop("nextUpdate")) },
  {
    name: `the ${what} has no evaluation number`,
    code: `${area}/malformed`,
    before: change(drop("tcbEvaluationDataNumber")),
  },
  { name: `the ${what} has no levels`, code: `${area}/malformed`, before: change(set({ tcbLevels: [] })) },
  {
    name: `the ${what} has an unknown status`,
    code: `${area}/malformed`,
    before: change((d) => (levels(d)[0]!.tcbStatus = "Splendid")),
  },
  {
    name: `the ${what} revokes the level`,
    code: "tcb/revoked",
    before: change((d) => (levels(d)[0]!.tcbStatus = "Revoked")),
  },
  { name: `the ${what} has an unknown id`, code: `${area}/malformed`, before: change(set({ id: "XYZ" })) },
]);

const tcb: RefusalCase[] = [
  {
    name: "the TCB info is that of SGX",
    code: "tcb-info/tee",
    before: (h) => void (h.tcbInfo = hierarchy("refusals", times, "sgx").tcbInfo),
  },
  {
    name: "the TCB info is that of TDX, the quote SGX's",
    code: "tcb-info/tee",
    format: "sgx-v3",
    before: (h) => void (h.tcbInfo = hierarchy("refusals", times, "tdx").tcbInfo),
  },
  {
    name: "the TCB info of SGX describes a TDX module",
    code: "tcb-info/malformed",
    format: "sgx-v3",
    before: info(set({ tdxModule: hierarchy("refusals", times).tcbInfo.tdxModule })),
  },
  {
    name: "the TCB info of SGX lists TDX modules",
    code: "tcb-info/malformed",
    format: "sgx-v3",
    before: info(set({ tdxModuleIdentities: hierarchy("refusals", times).tcbInfo.tdxModuleIdentities })),
  },
  {
    name: "the TCB info has a level twice",
    code: "tcb-info/malformed",
    before: info((d) => levels(d).push({ ...levels(d)[0]!, tcbStatus: "OutOfDate" })),
  },
  {
    name: "a TDX module has a level twice",
    code: "tcb-info/malformed",
    before: info((d) => levels(module(d)).push({ ...levels(module(d))[0]!, tcbStatus: "OutOfDate" })),
  },
  {
    name: "the QE identity has a level twice",
    code: "qe-identity/malformed",
    before: identity((d) => levels(d).push({ ...levels(d)[0]!, tcbStatus: "OutOfDate" })),
  },
  {
    name: "the TCB info has an empty list of modules",
    code: "tcb-info/malformed",
    before: info(set({ tdxModuleIdentities: [] })),
  },
  {
    name: "a level listed first is not the one that the platform reaches best",
    code: "tcb/revoked",
    before: info((d) => {
      const best = levels(d)[0]!;
      levels(d).unshift({ ...best, tcb: { ...best.tcb, pcesvn: 12 } });
      best.tcbStatus = "Revoked";
    }),
  },
  {
    name: "the TCB info is about another FMSPC",
    code: "tcb-info/fmspc",
    before: info(set({ fmspc: "ca1550000001" })),
  },
  { name: "the TCB info is about another PCE", code: "tcb-info/pceid", before: info(set({ pceId: "0001" })) },
  {
    name: "the TCB info is of an unknown TCB type",
    code: "tcb-info/malformed",
    before: info(set({ tcbType: 1 })),
  },
  {
    name: "a level has 15 components",
    code: "tcb-info/malformed",
    before: info((d) => (levels(d)[0]!.tcb.sgxtcbcomponents as unknown[]).pop()),
  },
  {
    name: "a level has a negative SVN",
    code: "tcb-info/malformed",
    before: info((d) => set({ pcesvn: -1 })(levels(d)[0]!.tcb)),
  },
  {
    name: "a level has no TDX components",
    code: "tcb-info/malformed",
    before: info((d) => drop("tdxtcbcomponents")(levels(d)[0]!.tcb)),
  },
  {
    name: "a TDX component from index 2 on is below the level",
    code: "tcb/no-level",
    td: { teeTcbSvn: `050102${"00".repeat(13)}` },
  },
  {
    name: "a TDX 1.0 module is below the level",
    code: "tcb/no-level",
    td: { teeTcbSvn: `040003${"00".repeat(13)}` },
  },
  {
    name: "the TDX module is below every level of its identity",
    code: "tcb/module-level",
    td: { teeTcbSvn: `040103${"00".repeat(13)}` },
  },
  {
    name: "the TDX module has a version that Intel does not list",
    code: "tdx-module/unknown",
    td: { teeTcbSvn: `050203${"00".repeat(13)}` },
  },
  {
    name: "the TCB info lists no modules",
    code: "tdx-module/unknown",
    before: info(drop("tdxModuleIdentities")),
  },
  {
    name: "the TCB info has no module for TDX 1.0",
    code: "tcb-info/malformed",
    before: info(drop("tdxModule")),
  },
  {
    name: "the TDX module is revoked",
    code: "tcb/revoked",
    before: info((d) => (levels(module(d))[0]!.tcbStatus = "Revoked")),
  },
  {
    name: "the TDX module has attributes, and Intel's list has the same",
    code: "tdx-module/attributes",
    before: info((d) => Object.assign(module(d), { attributes: "0100000000000000" })),
    td: { seamAttributes: "0100000000000000" },
  },
  {
    name: "the TDX module is signed by someone else",
    code: "tdx-module/signer",
    td: { mrSignerSeam: "01".repeat(48) },
  },
  {
    name: "the TDX module's identity names another signer",
    code: "tdx-module/signer",
    before: info((d) => set({ mrsigner: "01".repeat(48) })(module(d))),
  },
  {
    name: "the TDX module is a debug one",
    code: "tdx-module/attributes",
    td: { seamAttributes: "0100000000000000" },
  },
  {
    name: "Intel expects a debug module",
    code: "tdx-module/attributes",
    before: info((d) => set({ attributes: "0100000000000000" })(module(d))),
  },
  { name: "the QE identity is that of SGX's", code: "qe/tee", before: identity(set({ id: "QE" })) },
  {
    name: "the QE identity is that of TDX's, the quote SGX's",
    code: "qe/tee",
    format: "sgx-v3",
    before: identity(set({ id: "TD_QE" })),
  },
  {
    name: "the QE has another MISCSELECT",
    code: "qe/miscselect",
    before: (h) => void (h.qe.miscSelect = "01000000"),
  },
  {
    name: "the QE runs in debug mode",
    code: "qe/attributes",
    before: (h) => void (h.qe.attributes = `13${"00".repeat(15)}`),
  },
  {
    name: "the QE has another signer",
    code: "qe/signer",
    before: (h) => void (h.qe.mrSigner = "01".repeat(32)),
  },
  { name: "the QE is another product", code: "qe/product", before: (h) => void (h.qe.isvProdId = 3) },
  { name: "the QE is below every level", code: "qe/svn", before: (h) => void (h.qe.isvSvn = 3) },
  {
    name: "the QE report binds another key",
    code: "qe/report-data",
    before: (h) => void (h.qe.reportData = new Uint8Array(64).fill(1)),
  },
  {
    name: "the QE report data goes on after the hash",
    code: "qe/report-data",
    before: (h) => {
      const quote = issueQuote(h, "", {}, "td10-v4");
      h.qe.reportData = put(63, 1)(quote.subarray(632 + 4 + 128 + 6 + 320, 632 + 4 + 128 + 6 + 384));
    },
  },
  {
    name: "the QE report is signed by another key",
    code: "qe/signature",
    before: (h) => void (h.keys.pck = other),
  },
];

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

const quotes: RefusalCase[] = [
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

const clock: RefusalCase[] = [
  {
    name: "everything is judged before it was issued",
    code: "chain/not-yet-valid",
    now: after(times.issued, -second),
  },
  { name: "everything is judged after it expired", code: "chain/expired", now: after(times.expires, second) },
];

const fields = [
  "pck_crl_issuer_chain",
  "root_ca_crl",
  "pck_crl",
  "tcb_info_issuer_chain",
  "tcb_info",
  "tcb_info_signature",
  "qe_identity_issuer_chain",
  "qe_identity",
  "qe_identity_signature",
] as const;
const documents: RefusalCase[] = [
  ...fields.map(
    (field): RefusalCase => ({
      name: `the collateral has no ${field}`,
      code: "collateral/malformed",
      collateral: () => ({ [field]: undefined }),
    }),
  ),
  {
    name: "the collateral has an unknown field",
    code: "collateral/malformed",
    collateral: () => ({ extra: "1" }) as object,
  },
  {
    name: "a CRL has an odd number of digits",
    code: "collateral/malformed",
    collateral: (c) => ({ pck_crl: `${c.pck_crl}0` }),
  },
];

export const refusals: readonly RefusalCase[] = [
  ...certificates,
  ...crls,
  ...chains,
  ...pck,
  ...signedJson,
  ...tcb,
  ...quotes,
  ...clock,
  ...documents,
];

/** Evidence as `change` makes it, and what is needed to judge it. */
export function buildEvidence(change: Omit<RefusalCase, "name" | "code">) {
  const format = change.format ?? "td15-v5";
  const h = hierarchy("refusals", times, format === "sgx-v3" ? "sgx" : "tdx");
  const trust: TrustAnchor = { name: "test root", rootKey: h.keys.root.publicKey };
  change.before?.(h);
  const minted = mint(h);
  const quote = issueQuote(h, change.chain?.(minted, h) ?? minted.pckChain, change.td, format);
  return {
    quote: change.quote?.(quote) ?? quote,
    collateral: { ...minted.collateral, ...change.collateral?.(minted.collateral, h) } as Collateral,
    now: change.now ?? now,
    trust: change.trust ?? trust,
    root: issueCertificate(h.root),
  };
}
