// SPDX-License-Identifier: Apache-2.0
/** What can be wrong with the documents that Intel signs, and with the set of them. */
import { type Hierarchy, hierarchy } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { now, type RefusalCase, times } from "../evidence.ts";
import { after, flip, other, put, second, toHex } from "./edits.ts";

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

export const signedJson: RefusalCase[] = (
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

export const tcb: RefusalCase[] = [
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
export const documents: RefusalCase[] = [
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
