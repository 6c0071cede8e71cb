// SPDX-License-Identifier: Apache-2.0
/**
 * What a quote says, field by field, before anything is judged: for people who look into one. Every field of the body, bits
 * by name, the quoting enclave, and the certificate chain; what would let a debugger in comes first.
 */
import { fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { describeReport } from "../amd/describe.ts";
import { describeNitro } from "../aws/describe.ts";
import { VerifyError } from "../errors.ts";
import { pckExtension } from "../intel/pck.ts";
import { type EnclaveReport, parseQuote, type TdReport } from "../intel/quote.ts";
import { parsePemChain } from "../pki/pem.ts";
import type { Certificate } from "../pki/x509.ts";
import type { Description } from "./description.ts";
import { type AnyEvidence, isQuote } from "./evidence.ts";

import { tinfoilItems } from "./formats/tinfoil.ts";

export type { Description } from "./description.ts";

/** TD attributes by bit (Intel TDX Module ABI, ATTRIBUTES). */
const tdAttributes: Readonly<Record<number, string>> = {
  0: "DEBUG",
  4: "HGS+ profiling",
  5: "performance profiling",
  6: "performance monitoring",
  16: "ICSSD",
  17: "SERVTD_EXT",
  27: "LASS",
  28: "SEPT_VE_DISABLE",
  29: "MIGRATABLE",
  30: "PKS",
  31: "key locker",
  62: "TPA",
  63: "PERFMON",
};
/** Extended features by bit (XCR0 and XSS, Intel SDM volume 1, 13.1). */
const xfamBits: Readonly<Record<number, string>> = {
  0: "x87",
  1: "SSE",
  2: "AVX",
  5: "AVX-512 opmask",
  6: "AVX-512 ZMM_Hi256",
  7: "AVX-512 Hi16_ZMM",
  8: "PT",
  9: "PKRU",
  10: "PASID",
  11: "CET user",
  12: "CET supervisor",
  14: "UINTR",
  15: "LBR",
  17: "AMX tile configuration",
  18: "AMX tile data",
};
/** Enclave attributes by bit (Intel SDM volume 3D, 37.7.1); XFRM follows from bit 64. */
const enclaveAttributes: Readonly<Record<number, string>> = {
  0: "INIT",
  1: "DEBUG",
  2: "64-bit",
  4: "provisioning key",
  5: "launch token key",
  6: "CET",
  7: "KSS",
  10: "AEX notify",
};

/** The bits that are set, lowest first: by name, or as "bit N". */
function bits(bytes: Uint8Array, names: Readonly<Record<number, string>>): string {
  const set = [];
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    if ((bytes[bit >> 3]! & (1 << (bit & 7))) !== 0) set.push(names[bit] ?? `bit ${bit}`);
  }
  return `${toHex(bytes)}${set.length === 0 ? "" : ` (${set.join(", ")})`}`;
}

/** Describes evidence of any kind. Throws VerifyError "quote/…" or "snp/…" for what is not a quote or a report. */
export function describeEvidence(evidence: AnyEvidence): Description {
  const { hcl } = evidence;
  const description = isQuote(evidence)
    ? describeQuote(evidence.quote)
    : evidence.platform === "snp"
      ? describeReport(evidence.report, evidence.collateral?.endorsement)
      : describeNitro(evidence.document);
  if (hcl !== undefined) {
    const pcrs = hcl.quote?.pcrs.map((value, i) => [`PCR ${i}`, toHex(value)]) ?? [];
    description.groups["virtual TPM (HCL)"] = {
      "runtime data": fromUtf8(hcl.runtimeData),
      quote: hcl.quote === undefined ? "none" : toHex(hcl.quote.message),
      ...Object.fromEntries(pcrs),
    };
  }
  const items = tinfoilItems(evidence.reportData);
  if (items !== undefined) description.groups["bound by the report data"] = items;
  return description;
}

/** Describes a quote. Throws VerifyError "quote/…" for bytes that are not one. */
export function describeQuote(bytes: Uint8Array): Description {
  const quote = parseQuote(bytes);
  const { body } = quote;
  const description: Description = { warnings: [], groups: {} };
  const { groups } = description;
  groups.quote = {
    version: `${quote.version}`,
    TEE: body.tee.toUpperCase(),
    "attestation key": toHex(quote.attestationKey),
  };
  if (body.tee === "tdx") {
    Object.assign(groups, tdGroups(body.report));
    if ((body.report.tdAttributes[0]! & 1) !== 0) {
      description.warnings.push("this is a DEBUG TD: its host can read and change everything in it");
    }
  } else {
    groups.enclave = enclave(body.report);
    if (isDebug(body.report)) {
      description.warnings.push("this is a DEBUG enclave: its host can read and change everything in it");
    }
  }
  groups["quoting enclave"] = { ...enclave(quote.qeReport), "authentication data": toHex(quote.qeAuthData) };
  if (isDebug(quote.qeReport)) description.warnings.push("the quoting enclave is a DEBUG enclave");
  if (quote.pckChain === undefined) groups.certificates = { chain: "none in the quote" };
  else Object.assign(groups, chainGroups(quote.pckChain));
  return description;
}

const isDebug = ({ attributes }: EnclaveReport): boolean => (attributes[0]! & 2) !== 0;

function tdGroups(td: TdReport): Description["groups"] {
  const [rtmr0, rtmr1, rtmr2, rtmr3] = td.rtmrs.map(toHex) as [string, string, string, string];
  return {
    TD: {
      "report data": toHex(td.reportData),
      MRTD: toHex(td.mrTd),
      RTMR0: rtmr0,
      RTMR1: rtmr1,
      RTMR2: rtmr2,
      RTMR3: rtmr3,
      attributes: bits(td.tdAttributes, tdAttributes),
      XFAM: bits(td.xfam, xfamBits),
      MRCONFIGID: toHex(td.mrConfigId),
      MROWNER: toHex(td.mrOwner),
      MROWNERCONFIG: toHex(td.mrOwnerConfig),
      MRSERVICETD: td.mrServiceTd === undefined ? "not in a TD 1.0 report" : toHex(td.mrServiceTd),
    },
    ...(td.extended && {
      "TD, extended": {
        "VM id": `${td.extended.vmId}`,
        "TD id": toHex(td.extended.tdId),
        "device information": toHex(td.extended.deviceInfo),
        "initial service TD": toHex(td.extended.initialServiceTd),
        "initial service TD's attributes": toHex(td.extended.initialServiceTdAttributes),
        "initial CPUSVN": toHex(td.extended.initialCpuSvn),
        "initial TEE_TCB_SVN": toHex(td.extended.initialTeeTcbSvn),
        "initial FMSPC": toHex(td.extended.initialFmspc),
        "current service TD": toHex(td.extended.currentServiceTd),
        "current service TD's attributes": toHex(td.extended.currentServiceTdAttributes),
      },
    }),
    "TDX module": {
      MRSEAM: toHex(td.mrSeam),
      MRSIGNERSEAM: toHex(td.mrSignerSeam),
      SEAMATTRIBUTES: toHex(td.seamAttributes),
      TEE_TCB_SVN: toHex(td.teeTcbSvn),
      version: `major ${td.teeTcbSvn[1]}, SVN ${td.teeTcbSvn[0]}`,
      ...(td.teeTcbSvn2 === undefined ? {} : { TEE_TCB_SVN2: toHex(td.teeTcbSvn2) }),
    },
  };
}

function enclave(report: EnclaveReport): Record<string, string> {
  return {
    MRENCLAVE: toHex(report.mrEnclave),
    MRSIGNER: toHex(report.mrSigner),
    ISVPRODID: `${report.isvProdId}`,
    ISVSVN: `${report.isvSvn}`,
    ISVEXTPRODID: toHex(report.isvExtProdId),
    ISVFAMILYID: toHex(report.isvFamilyId),
    CONFIGID: toHex(report.configId),
    CONFIGSVN: `${report.configSvn}`,
    attributes: bits(report.attributes.subarray(0, 8), enclaveAttributes),
    XFRM: bits(report.attributes.subarray(8), xfamBits),
    MISCSELECT: toHex(report.miscSelect),
    CPUSVN: toHex(report.cpuSvn),
    "report data": toHex(report.reportData),
  };
}

/** The chain as it is; one that cannot be read is said so, for the rest of the quote can be looked at all the same. */
function chainGroups(pem: string): Description["groups"] {
  try {
    const chain = parsePemChain(pem);
    const certificates = Object.fromEntries(chain.map((one, i) => [`${i + 1}`, certificateLine(one)]));
    const [leaf] = chain;
    const pck = leaf && pckExtension(leaf);
    if (pck === undefined) return { certificates };
    const { ppid, piid, fmspc, pceId, pceSvn, sgxSvns } = pck;
    return {
      platform: {
        FMSPC: fmspc,
        PPID: ppid,
        PIID: piid ?? "none",
        "PCE id": pceId,
        "PCE SVN": `${pceSvn}`,
        "SGX component SVNs": sgxSvns.join(" "),
      },
      certificates,
    };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return { certificates: { chain: `cannot be read: ${error.message} [${error.code}]` } };
  }
}

function certificateLine({ commonName, serial, notBefore, notAfter }: Certificate): string {
  const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
  return `${commonName}, serial ${serial}, ${day(notBefore)} to ${day(notAfter)}`;
}
