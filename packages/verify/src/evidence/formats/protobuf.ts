// SPDX-License-Identifier: Apache-2.0
/**
 * Quotes and reports taken apart into Protocol Buffers: go-tdx-guest's `QuoteV4` and `QuoteV5` (proto/tdx.proto),
 * go-sev-guest's `Report` and `Attestation` (proto/sevsnp.proto), and go-tpm-tools' `Attestation` around either
 * (proto/attest.proto), whose TPM lies outside the TEE and says nothing here. The quote's or report's own bytes are put
 * together again; that nothing of it was changed, its signature says.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { REPORT_SIZE } from "../../amd/report.ts";
import { VerifyError } from "../../errors.ts";
import type { AnyEvidence, SnpEvidence } from "../evidence.ts";
import { Message } from "../protobuf.ts";

/** Fields as they lie in bytes: number and size, in bytes; of a list how many. A version and its like are little-endian. */
type Layout = readonly (readonly [field: number, size: number, count?: number])[];

/** A field's bytes, of exactly this size. */
function laid(message: Message, field: number, size: number, count = 1): Uint8Array {
  const values = message.list(field);
  // What is left out is zero, if it is a number.
  if (values.length === 0 && size <= 8 && count === 1) return littleEndian(message, field, 0n, size);
  if (values.length !== count) message.wrong(field, `occurs ${values.length} times, not ${count}`);
  return concat(
    ...values.map((value) => {
      if (typeof value === "bigint") return littleEndian(message, field, value, size);
      return value.length === size ? value : message.wrong(field, `has ${value.length} bytes, not ${size}`);
    }),
  );
}
function littleEndian(message: Message, field: number, value: bigint, size: number): Uint8Array {
  if (value >> BigInt(8 * size) !== 0n) message.wrong(field, `does not fit in ${size} bytes`);
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
const laidOut = (message: Message, layout: Layout): Uint8Array =>
  concat(...layout.map(([field, size, count]) => laid(message, field, size, count)));

/** Bytes behind their size, which the message has as a field of its own: of `width` bytes. */
function measured(message: Message, field: number, width: number, bytes: Uint8Array): Uint8Array {
  if (message.number(field) !== BigInt(bytes.length))
    message.wrong(field, `is ${message.number(field)}, for ${bytes.length} bytes`);
  return concat(laid(message, field, width), bytes);
}

/**
 * version, attestation_key_type, tee_type, pce_svn, qe_svn (whose numbers are the other way about), qe_vendor_id,
 * user_data
 */
const header: Layout = [
  [1, 2],
  [2, 2],
  [3, 4],
  [5, 2],
  [4, 2],
  [6, 16],
  [7, 20],
];
/** tee_tcb_svn, mr_seam, mr_signer_seam, seam_attributes, td_attributes, xfam, mr_td … mr_owner_config, rtmrs, report_data */
const body10: Layout = [
  [1, 16],
  [2, 48],
  [3, 48],
  [4, 8],
  [5, 8],
  [6, 8],
  [7, 48],
  [8, 48],
  [9, 48],
  [10, 48],
  [11, 48, 4],
  [12, 64],
];
/** … tee_tcb_svn2, mr_service_td */
const body15: Layout = [...body10, [13, 16], [14, 48]];
/**
 * cpu_svn, misc_select, reserved, attributes, mr_enclave, reserved, mr_signer, reserved, isv_prod_id, isv_svn,
 * reserved, report_data
 */
const enclave: Layout = [
  [1, 16],
  [2, 4],
  [3, 28],
  [4, 16],
  [5, 32],
  [6, 32],
  [7, 32],
  [8, 96],
  [9, 2],
  [10, 2],
  [11, 60],
  [12, 64],
];

/** signature, ecdsa_attestation_key, certification_data */
function signedBytes(signed: Message): Uint8Array {
  const certification = signed.message(3, "nnb");
  // qe_report, qe_report_signature, qe_auth_data, pck_certificate_chain_data
  const data = certification.message(3, "bbbb");
  const authentication = data.message(3, "nb");
  const chain = data.message(4, "nnb");
  const inner = concat(
    laidOut(data.message(1, "bnbbbbbbnnbb"), enclave),
    laid(data, 2, 64),
    measured(authentication, 1, 2, authentication.bytes(2)),
    laid(chain, 1, 2),
    measured(chain, 2, 4, chain.bytes(3)),
  );
  return concat(
    laid(signed, 1, 64),
    laid(signed, 2, 64),
    laid(certification, 1, 2),
    measured(certification, 2, 4, inner),
  );
}

/** header, td_quote_body (or its descriptor), signed_data_size, signed_data, extra_bytes, which filled a buffer up */
function readQuote(encoding: Uint8Array, version: 4 | 5): AnyEvidence {
  const quote = new Message(encoding, "bbnbb", `this protobuf of a quote (version ${version})`);
  const signed = signedBytes(quote.message(4, "bbb"));
  const body =
    version === 4 ? laidOut(quote.message(2, "bbbbbbbbbblb"), body10) : bodyOf(quote.message(2, "nnb"));
  return {
    platform: "tdx",
    quote: concat(
      laidOut(quote.message(1, "nnnbbbb"), header),
      body,
      measured(quote, 3, 4, signed),
      quote.bytes(5),
    ),
  };
}

/** td_quote_body_type (2 is a TD 1.0's, 3 a TD 1.5's), td_quote_body_size, td_quote_body_v5 */
function bodyOf(descriptor: Message): Uint8Array {
  const td10 = descriptor.number(1) === 2n;
  const body = laidOut(
    descriptor.message(3, td10 ? "bbbbbbbbbblb" : "bbbbbbbbbblbbb"),
    td10 ? body10 : body15,
  );
  return concat(laid(descriptor, 1, 2), measured(descriptor, 2, 4, body));
}

/** What each field of a report is, and where it lies: number, offset, size (AMD 56860, ATTESTATION_REPORT). */
const reportKinds = "nnnbbnnnnnbbbbbbbnbnnnnnnnnbnnn";
const reportLayout: readonly (readonly [field: number, offset: number, size: number])[] = [
  [1, 0x00, 4],
  [2, 0x04, 4],
  [3, 0x08, 8],
  [4, 0x10, 16],
  [5, 0x20, 16],
  [6, 0x30, 4],
  [7, 0x34, 4],
  [8, 0x38, 8],
  [9, 0x40, 8],
  [10, 0x48, 4],
  [11, 0x50, 64],
  [12, 0x90, 48],
  [13, 0xc0, 32],
  [14, 0xe0, 48],
  [15, 0x110, 48],
  [16, 0x140, 32],
  [17, 0x160, 32],
  [18, 0x180, 8],
  [19, 0x1a0, 64],
  [20, 0x1e0, 8],
  [21, 0x1e8, 1],
  [22, 0x1e9, 1],
  [23, 0x1ea, 1],
  [24, 0x1ec, 1],
  [25, 0x1ed, 1],
  [26, 0x1ee, 1],
  [27, 0x1f0, 8],
  [28, 0x2a0, 512],
  [30, 0x1f8, 8],
  [31, 0x200, 8],
];
const CPUID = 29;

function reportBytes(message: Message): Uint8Array {
  const report = new Uint8Array(REPORT_SIZE);
  for (const [field, offset, size] of reportLayout) report.set(laid(message, field, size), offset);
  // CPUID leaf 1's EAX: an extended family adds to the family, an extended model stands above the model.
  const eax = message.number(CPUID);
  const bits = (from: bigint, count: bigint) => Number((eax >> from) & ((1n << count) - 1n));
  if ((eax & ~0x0fff0fffn) !== 0n) message.wrong(CPUID, "has bits that are not family, model or stepping");
  report.set([bits(8n, 4n) + bits(20n, 8n), (bits(16n, 4n) << 4) | bits(4n, 4n), bits(0n, 4n)], 0x188);
  return report;
}

/** report, certificate_chain, product, which the guest thinks that it runs on: report and certificate say it. */
function readSnpAttestation(encoding: Uint8Array): SnpEvidence {
  const attestation = new Message(encoding, "bbb", "this protobuf of a SEV-SNP attestation");
  const report = reportBytes(attestation.message(1, reportKinds));
  if (attestation.list(2).length === 0) return { platform: "snp", report };
  // vcek, ask, ark, firmware, vlek, extras
  const chain = attestation.message(2, "bbbb-bl");
  const [vcek, ask, ark, vlek] = [1, 2, 3, 6].map((field) => chain.bytes(field)) as Parts;
  if (vcek.length > 0 && vlek.length > 0) chain.wrong(6, "is a VLEK beside a VCEK");
  const endorsement = vcek.length > 0 ? vcek : vlek;
  return {
    platform: "snp",
    report,
    collateral: {
      ...(endorsement.length > 0 && { endorsement }),
      ...(ask.length > 0 && ark.length > 0 && { chain: [ask, ark] }),
    },
  };
}
type Parts = [Uint8Array, Uint8Array, Uint8Array, Uint8Array];

/**
 * ak_pub, quotes, event_log, instance_info, canonical_event_log, ak_cert, intermediate_certs, then what the TEE made:
 * SNP, TDX.
 */
function readTpmAttestation(encoding: Uint8Array): AnyEvidence {
  const attestation = new Message(encoding, "blbbbblbb", "this attestation of go-tpm-tools");
  const [snp, tdx] = [attestation.bytes(8), attestation.bytes(9)];
  if (snp.length > 0 === tdx.length > 0) {
    throw new VerifyError(
      "evidence/unsupported",
      "this attestation of go-tpm-tools has no evidence of a TEE, or of two: what its TPM says is said outside of one",
    );
  }
  return snp.length > 0 ? readSnpAttestation(snp) : readQuote(tdx, 4);
}

const readReport = (encoding: Uint8Array): AnyEvidence => ({
  platform: "snp",
  report: reportBytes(new Message(encoding, reportKinds, "this protobuf of a report")),
});

/**
 * What reads it, by the first field; undefined for what is none of them. A header has a version, a type of key (2) and of TEE
 * (0x81, in two bytes; a report's policy, in the same place, is larger); a report its version; what go-tpm-tools writes a
 * TPMT_PUBLIC, of RSA (0x0001) or ECC (0x0023) with SHA-256.
 */
function readerFor(encoding: Uint8Array): ((encoding: Uint8Array) => AnyEvidence) | undefined {
  if (encoding[0] === 0x08 && encoding[1]! >= 2 && encoding[1]! <= 5 && encoding.length > 512)
    return readReport;
  if (encoding[0] !== 0x0a) return undefined;
  let at = 1;
  while (at < 6 && (encoding[at] ?? 0) >= 0x80) at++;
  const begins = (...bytes: number[]) => bytes.every((byte, i) => encoding[at + 1 + i] === byte);
  if (begins(0x00, 0x01, 0x00, 0x0b) || begins(0x00, 0x23, 0x00, 0x0b)) return readTpmAttestation;
  const version = encoding[at + 2]!;
  if (!begins(0x08) || !(version >= 2 && version <= 5)) return undefined;
  if (!begins(0x08, version, 0x10, 0x02, 0x18, 0x81, 0x01)) return readSnpAttestation;
  return version === 4 || version === 5 ? (bytes) => readQuote(bytes, version) : undefined;
}

export const isProtobuf = (encoding: Uint8Array): boolean => readerFor(encoding) !== undefined;

/** Reads any of them. Throws VerifyError "evidence/malformed", "evidence/unsupported". */
export const readProtobuf = (encoding: Uint8Array): AnyEvidence => readerFor(encoding)!(encoding);
