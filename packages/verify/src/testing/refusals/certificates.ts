// SPDX-License-Identifier: Apache-2.0
/** What can be wrong with any certificate of a chain, and with the extension of the PCK's. */
import { type CertificateSpec } from "@caisson/simulated/certificates";
import { type Hierarchy, type PckSpec, sgxExtension } from "@caisson/simulated/pki";
import { tag } from "../../pki/der.ts";
import { bitString, der, integer, oid, sequence } from "../../pki/der-writer.ts";
import { now, type RefusalCase } from "../evidence.ts";
import {
  after,
  append,
  type Change,
  edit,
  flip,
  ids,
  longerLength,
  other,
  put,
  replaceWith,
  second,
  setExtension,
  swap,
  withoutExtension,
  yes,
} from "./edits.ts";

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

export const certificates: RefusalCase[] = (["root", "pckCa", "pck", "tcbSigner"] as const).flatMap((role) =>
  certificateChanges.map(([what, code, change]) => ({
    name: `the ${role} certificate ${what}`,
    code,
    before: (h: Hierarchy) => change(h[role]),
  })),
);

const sgx: PckSpec = {
  ppid: "00".repeat(16),
  sgxSvns: [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
  pceSvn: 13,
  pceId: "0000",
  fmspc: "ca1550000000",
};
const sgxOid = "1.2.840.113741.1.13.1";
const withSgx = (value: Uint8Array) => (h: Hierarchy) => setExtension(h.pck, sgxOid, value);

export const pck: RefusalCase[] = [
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
