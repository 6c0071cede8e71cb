// SPDX-License-Identifier: Apache-2.0
/** What can be wrong with a revocation list, and what one revokes. */

import {
  type CertificateSpec,
  type CrlSpec,
  issueCertificate,
  issueCrl,
} from "@caisson/simulated/certificates";
import { TestKey } from "@caisson/simulated/p256";
import { type Hierarchy, hierarchy } from "@caisson/simulated/pki";
import { der, integer, oid, sequence, toPem } from "../../pki/der-writer.ts";
import { now, type RefusalCase, times } from "../evidence.ts";
import {
  after,
  append,
  type Change,
  edit,
  flip,
  ids,
  longerLength,
  other,
  second,
  setExtension,
  splitPem,
  toHex,
  withoutExtension,
} from "./edits.ts";

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

export const crls: RefusalCase[] = [
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
