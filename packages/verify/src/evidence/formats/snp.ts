// SPDX-License-Identifier: Apache-2.0
/** Forms of SEV-SNP evidence, and Azure's, in which a virtual TPM comes along: CoCo's documents, Azure's, bare reports. */
import { fromHex, isZero } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import { either, hex, list, object, optional, record, type Schema, text } from "@caisson/vocabulary/schema";
import { readCertificateTable } from "../../amd/certificate-table.ts";
import type { AmdCollateral } from "../../amd/collateral.ts";
import { REPORT_SIZE } from "../../amd/report.ts";
import { VerifyError } from "../../errors.ts";
import { pemToDer } from "../../pki/pem.ts";
import type { Evidence, SnpEvidence } from "../evidence.ts";
import { type Hcl, readHclReport } from "../hcl.ts";
import { base64, base64url, hexBytes, readPart } from "./fields.ts";

const CERTIFICATE = 16 << 10;

/** A report, and behind it what the host's table holds; Linux before 6.10 fills up with zeros. */
export function readRawReport(bytes: Uint8Array): SnpEvidence {
  const rest = bytes.subarray(REPORT_SIZE);
  return {
    platform: "snp",
    report: bytes.subarray(0, REPORT_SIZE),
    ...(!isZero(rest) && { collateral: readCertificateTable(rest) }),
  };
}

/** An HCL report by itself. A TD's is not a quote yet. */
export function readRawHcl(bytes: Uint8Array): SnpEvidence {
  const { kind, hardware, runtimeData } = readHclReport(bytes);
  if (kind === "tdx") {
    throw new VerifyError(
      "evidence/unsupported",
      "the HCL report of a TD holds a report that no quote was made of",
      {
        expected: "the quote beside it: Azure's TDX evidence",
      },
    );
  }
  return { platform: "snp", report: hardware, hcl: { runtimeData } };
}

const tpmQuote = object(
  { message: hexBytes(4096), signature: hexBytes(1024), pcrs: list(hexBytes(64), 0, 24) },
  "loose",
);
const certificate: Schema<Uint8Array> = either(
  "PEM, or base64 of DER",
  pemCertificate,
  base64url(CERTIFICATE),
);
function pemCertificate(value: unknown): Uint8Array {
  const [first] = pemToDer(text("PEM", /^-----BEGIN CERTIFICATE-----/, 4 * CERTIFICATE)(value));
  return first!;
}

const azureSnp = object(
  { hcl_report: base64url(limits.quote), vcek: optional(certificate), tpm_quote: optional(tpmQuote) },
  "loose",
);
const azureTdx = object(
  { hcl_report: base64url(limits.quote), td_quote: base64url(limits.quote), tpm_quote: optional(tpmQuote) },
  "loose",
);

const withQuote = (runtimeData: Uint8Array, quote: Hcl["quote"] | undefined): { hcl: Hcl } => ({
  hcl: { runtimeData, ...(quote && { quote }) },
});

/** Throws VerifyError "evidence/malformed". */
export function readAzureSnp(value: unknown): SnpEvidence {
  const { hcl_report, vcek, tpm_quote } = readPart(azureSnp, value, "Azure document");
  const { kind, hardware, runtimeData } = readHclReport(hcl_report);
  if (kind !== "snp") {
    throw new VerifyError(
      "evidence/unsupported",
      "this Azure document has a TD's HCL report and no quote of it",
    );
  }
  return {
    platform: "snp",
    report: hardware,
    ...(vcek && { collateral: { endorsement: vcek } }),
    ...withQuote(runtimeData, tpm_quote),
  };
}

/** Throws VerifyError "evidence/malformed". */
export function readAzureTdx(value: unknown): Evidence {
  const { hcl_report, td_quote, tpm_quote } = readPart(azureTdx, value, "Azure document");
  const { kind, runtimeData } = readHclReport(hcl_report);
  if (kind !== "tdx") {
    throw new VerifyError(
      "evidence/malformed",
      "this Azure document has a TD's quote and another guest's HCL report",
    );
  }
  return { platform: "tdx", quote: td_quote, ...withQuote(runtimeData, tpm_quote) };
}

/** `cert_chain`: certificates by name, or a list of them with their types, as bytes or base64. */
const bytesOrBase64: Schema<Uint8Array> = either("bytes or base64", byteList, base64url(CERTIFICATE));
function byteList(value: unknown): Uint8Array {
  const bytes = list(
    (byte) => hex(1)(typeof byte === "number" ? byte.toString(16).padStart(2, "0") : byte),
    1,
    CERTIFICATE,
  );
  return fromHex(bytes(value).join(""))!;
}
const certificates = either(
  "certificates by name, or a list of {cert_type, data}",
  record(/^[a-z]{1,16}$/, certificate, 8),
  list(object({ cert_type: text("a type", /^[A-Za-z]{1,16}$/, 16), data: bytesOrBase64 }), 0, 8),
);
const cocoSnp = object(
  {
    attestation_report: base64(REPORT_SIZE),
    cert_chain: optional(
      either("certificates, or null", certificates, (value) =>
        value === null ? undefined : certificates(value),
      ),
    ),
  },
  "loose",
);

/** Throws VerifyError "evidence/malformed". */
export function readCocoSnp(value: unknown): SnpEvidence {
  const { attestation_report, cert_chain } = readPart(cocoSnp, value, "CoCo document");
  const found = Array.isArray(cert_chain)
    ? Object.fromEntries(cert_chain.map(({ cert_type, data }) => [cert_type.toLowerCase(), data] as const))
    : (cert_chain ?? {});
  const endorsement = found.vcek ?? found.vlek;
  const [intermediate, root] = [found.ask ?? found.asvk, found.ark];
  const collateral: AmdCollateral = {
    ...(endorsement && { endorsement }),
    ...(intermediate && root && { chain: [intermediate, root] }),
  };
  return { platform: "snp", report: attestation_report, collateral };
}
