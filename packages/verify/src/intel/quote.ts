// SPDX-License-Identifier: Apache-2.0
/**
 * Quotes: bytes to structure (Intel TDX DCAP Quoting Library API, appendix A; SGX ECDSA QuoteGen Reference, appendix A).
 *
 * Invariants: every length is checked against what holds it, inner structures fill their containers exactly, and
 * after the quote only zeros may follow (the kernel returns a padded buffer). Fields are views into the input.
 */
import { fromUtf8, isZero, toHex } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import { type CheckCode, VerifyError } from "../errors.ts";
import { Cursor } from "../evidence/cursor.ts";

/** Report of an SGX enclave (384 bytes; Intel SDM volume 3D, table 39-21). */
export interface EnclaveReport {
  readonly bytes: Uint8Array;
  readonly cpuSvn: Uint8Array;
  readonly miscSelect: Uint8Array;
  readonly attributes: Uint8Array;
  readonly mrEnclave: Uint8Array;
  readonly mrSigner: Uint8Array;
  /** The same number at length, and whose family it is; zero without KSS. */
  readonly isvExtProdId: Uint8Array;
  readonly isvFamilyId: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  /** What the host configured the enclave with, 64 bytes; MRENCLAVE does not cover it. */
  readonly configId: Uint8Array;
  readonly configSvn: number;
  readonly reportData: Uint8Array;
}

/** Report of a trust domain: TD 1.0 (584 bytes), or TD 1.5 (648 bytes) with the last two fields. */
export interface TdReport {
  readonly teeTcbSvn: Uint8Array;
  readonly mrSeam: Uint8Array;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrTd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly reportData: Uint8Array;
  readonly teeTcbSvn2?: Uint8Array;
  readonly mrServiceTd?: Uint8Array;
  /** Body type 4 of quote version 5 only. */
  readonly extended?: TdExtension;
}

/** A parsed quote; nothing about it is verified yet. */
export interface Quote {
  readonly version: 3 | 4 | 5;
  readonly body: { tee: "sgx"; report: EnclaveReport } | { tee: "tdx"; report: TdReport };
  /** What the attestation key signed: header, body descriptor (version 5) and body. */
  readonly signed: Uint8Array;
  /** r ‖ s. */
  readonly signature: Uint8Array;
  /** x ‖ y of P-256. */
  readonly attestationKey: Uint8Array;
  readonly qeReport: EnclaveReport;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthData: Uint8Array;
  /** PEM of the PCK certificate chain; undefined when the quote identifies the PCK in another way. */
  readonly pckChain: string | undefined;
}

const TEE_SGX = 0;
const TEE_TDX = 0x81;
const ECDSA_P256 = 2;
const ECDSA_P384 = 3;
/** Certification data types (appendix A.3.9): 1 to 5 identify the PCK, 5 by its chain; 6 is an envelope around them. */
const PCK_CHAIN = 5;
const QE_REPORT = 6;
/** The vendor id of Intel's quoting enclaves; others could mean other formats. */
const INTEL_QE = "939a7233f79c4ca9940a0db3957f0607";

const HEADER_SIZE = 48;
const ENCLAVE_REPORT_SIZE = 384;
const TD10_SIZE = 584;
const TD15_SIZE = 648;
/** TD report 1.5 extended: body type 4 (Intel's sgx_quote_5.h, sgx_report2_body_v1_5_ex_t). */
const TD15_EXTENDED_SIZE = 885;
/** Bytes of a PEM chain of three certificates, generously. */
const MAX_CHAIN = 32768;

/** What a TD report 1.5 extended adds. All but the TD's own id are zero in a TD without service TDs, devices or partitions. */
export interface TdExtension {
  /** Which partition of the TD asked: 0 is the TD itself, or its own monitor. */
  readonly vmId: number;
  /** Of this start of the TD. */
  readonly tdId: Uint8Array;
  /** Hash of what is known of its devices. */
  readonly deviceInfo: Uint8Array;
  readonly initialServiceTd: Uint8Array;
  readonly initialServiceTdAttributes: Uint8Array;
  readonly initialCpuSvn: Uint8Array;
  readonly initialTeeTcbSvn: Uint8Array;
  readonly initialFmspc: Uint8Array;
  /** Service TDs that are bound now, also those bound after the TD was created. */
  readonly currentServiceTd: Uint8Array;
  readonly currentServiceTdAttributes: Uint8Array;
}

/** Running out of it is `code`. */
const partOf = (bytes: Uint8Array, code: CheckCode): Cursor =>
  new Cursor(bytes, "this part of the quote", code);

function enclaveReport(bytes: Uint8Array): EnclaveReport {
  const at = (offset: number, size: number) => bytes.subarray(offset, offset + size);
  return {
    bytes,
    cpuSvn: at(0, 16),
    miscSelect: at(16, 4),
    attributes: at(48, 16),
    isvExtProdId: at(32, 16),
    isvFamilyId: at(304, 16),
    mrEnclave: at(64, 32),
    mrSigner: at(128, 32),
    isvProdId: bytes[256]! | (bytes[257]! << 8),
    isvSvn: bytes[258]! | (bytes[259]! << 8),
    configId: at(192, 64),
    configSvn: bytes[260]! | (bytes[261]! << 8),
    reportData: at(320, 64),
  };
}

function tdReport(bytes: Uint8Array): TdReport {
  const fields = partOf(bytes, "quote/body");
  const report = {
    teeTcbSvn: fields.take(16),
    mrSeam: fields.take(48),
    mrSignerSeam: fields.take(48),
    seamAttributes: fields.take(8),
    tdAttributes: fields.take(8),
    xfam: fields.take(8),
    mrTd: fields.take(48),
    mrConfigId: fields.take(48),
    mrOwner: fields.take(48),
    mrOwnerConfig: fields.take(48),
    rtmrs: [fields.take(48), fields.take(48), fields.take(48), fields.take(48)] as const,
    reportData: fields.take(64),
  };
  if (bytes.length === TD10_SIZE) return report;
  const newer = { ...report, teeTcbSvn2: fields.take(16), mrServiceTd: fields.take(48) };
  if (bytes.length === TD15_SIZE) return newer;
  const extended: TdExtension = {
    vmId: fields.littleEndian(1),
    tdId: fields.take(32),
    deviceInfo: fields.take(48),
    initialServiceTd: fields.take(48),
    initialServiceTdAttributes: fields.take(8),
    initialCpuSvn: fields.take(16),
    initialTeeTcbSvn: fields.take(16),
    initialFmspc: fields.take(12),
    currentServiceTd: fields.take(48),
    currentServiceTdAttributes: fields.take(8),
  };
  return { ...newer, extended };
}

const tdReportSize = ({ extended, mrServiceTd }: TdReport): number =>
  extended !== undefined ? TD15_EXTENDED_SIZE : mrServiceTd !== undefined ? TD15_SIZE : TD10_SIZE;

/** Which body a quote must have: by TEE type up to version 4, by its descriptor in version 5. */
function readBody(quote: Cursor, version: 3 | 4 | 5, tee: number): Quote["body"] {
  let size = tee === TEE_SGX ? ENCLAVE_REPORT_SIZE : TD10_SIZE;
  if (version === 5) {
    const [type, declared] = [quote.littleEndian(2), quote.littleEndian(4)];
    if (type > 4 && type < 16) notJudgedHere("quotes with this body", `type ${type}, ${declared} bytes`);
    const known = [undefined, ENCLAVE_REPORT_SIZE, TD10_SIZE, TD15_SIZE, TD15_EXTENDED_SIZE][type];
    if (known === undefined || declared !== known || (type === 1) !== (tee === TEE_SGX)) {
      throw new VerifyError("quote/body", "the body descriptor is unknown, or not that of the TEE", {
        actual: `type ${type}, ${declared} bytes, TEE type 0x${tee.toString(16)}`,
      });
    }
    size = known;
  }
  const body = quote.take(size);
  return tee === TEE_SGX
    ? { tee: "sgx", report: enclaveReport(body) }
    : { tee: "tdx", report: tdReport(body) };
}

/** Numbers that lie next to those that are known: newer than this verifier, and no fault of the quote. */
function notJudgedHere(what: string, actual: string): never {
  throw new VerifyError("quote/unsupported", `${what} are not judged by this version of Caisson`, {
    actual,
    fix: "judge it with a newer version",
  });
}

/** Reads a quote. Throws VerifyError with a code of the check "quote/format". */
export function parseQuote(bytes: Uint8Array): Quote {
  if (bytes.length > limits.quote) {
    throw new VerifyError("quote/size", "the quote is too large", {
      expected: `at most ${limits.quote} bytes`,
      actual: `${bytes.length} bytes`,
    });
  }
  const quote = partOf(bytes, "quote/truncated");
  const version = quote.littleEndian(2);
  if (version > 5 && version < 16) notJudgedHere("quotes of this version", `${version}`);
  if (version !== 3 && version !== 4 && version !== 5) {
    throw new VerifyError("quote/version", "this version of quotes is not known", {
      expected: "3, 4 or 5",
      actual: `${version}`,
    });
  }
  const [keyType, tee] = [quote.littleEndian(2), quote.littleEndian(4)];
  quote.take(4); // SVNs of QE and PCE in version 3, reserved later; the certified ones are in the PCK certificate
  const vendor = toHex(quote.take(16));
  quote.take(20); // user data: the platform's QE id
  if (keyType === ECDSA_P384) notJudgedHere("quotes signed with P-384", `key type ${keyType}`);
  const knownTee = version === 3 ? tee === TEE_SGX : tee === TEE_SGX || tee === TEE_TDX;
  if (keyType !== ECDSA_P256 || !knownTee || vendor !== INTEL_QE) {
    throw new VerifyError("quote/header", "the quote's key type, TEE type or QE vendor is not known", {
      expected: `key type ${ECDSA_P256}, TEE type 0x0 or (from version 4) 0x81, vendor ${INTEL_QE}`,
      actual: `key type ${keyType}, TEE type 0x${tee.toString(16)}, vendor ${vendor}`,
    });
  }
  const body = readBody(quote, version, tee);
  const bodySize = body.tee === "sgx" ? ENCLAVE_REPORT_SIZE : tdReportSize(body.report);
  const signed = bytes.subarray(0, HEADER_SIZE + (version === 5 ? 6 : 0) + bodySize);
  const signatureData = quote.take(quote.littleEndian(4));
  if (!isZero(quote.take(quote.left))) {
    throw new VerifyError("quote/trailing-bytes", "the bytes after the quote are not all zero");
  }
  return { version, body, signed, ...readSignatureData(signatureData, version) };
}

function readSignatureData(bytes: Uint8Array, version: 3 | 4 | 5) {
  const data = partOf(bytes, "quote/signature-data");
  const signature = data.take(64);
  const attestationKey = data.take(64);
  // From version 4 on, everything about the QE lies in one more envelope.
  let qe = data;
  if (version > 3) {
    const type = data.littleEndian(2);
    if (type !== QE_REPORT) {
      throw new VerifyError("quote/certification-data", "the quote carries no QE report", {
        expected: `certification data type ${QE_REPORT}`,
        actual: `${type}`,
      });
    }
    qe = partOf(data.take(data.littleEndian(4)), "quote/certification-data");
    data.end();
  }
  const qeReport = enclaveReport(qe.take(ENCLAVE_REPORT_SIZE));
  const qeReportSignature = qe.take(64);
  const qeAuthData = qe.take(qe.littleEndian(2));
  const type = qe.littleEndian(2);
  const certificationData = qe.take(qe.littleEndian(4));
  qe.end();
  if (type < 1 || type > PCK_CHAIN) {
    throw new VerifyError("quote/certification-data", "the quote identifies its PCK in an unknown way", {
      expected: `certification data type 1 to ${PCK_CHAIN}`,
      actual: `${type}`,
    });
  }
  if (certificationData.length > MAX_CHAIN) {
    throw new VerifyError("quote/certification-data", "the certificate chain in the quote is too large", {
      expected: `at most ${MAX_CHAIN} bytes`,
      actual: `${certificationData.length} bytes`,
    });
  }
  const pckChain = type === PCK_CHAIN ? fromUtf8(certificationData) : undefined;
  return { signature, attestationKey, qeReport, qeReportSignature, qeAuthData, pckChain };
}
