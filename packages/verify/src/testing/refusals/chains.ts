// SPDX-License-Identifier: Apache-2.0
/** Chains that are too short or long, in another order, of another root, or mixed. */

import { issueCertificate } from "@caisson/simulated/certificates";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { toPem } from "../../pki/der-writer.ts";
import { type RefusalCase, times } from "../evidence.ts";
import { other, splitPem } from "./edits.ts";

export const chains: RefusalCase[] = [
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
