// SPDX-License-Identifier: Apache-2.0
/**
 * Tinfoil's attestation documents (tinfoilsh/tinfoil-go, verifier): version 2, one report or quote that was made at boot;
 * version 3, one over the client's nonce and two sections, which travel as the exact bytes that were hashed. Collateral in it
 * is read as any other: each part proves itself.
 */
import { fromHex, fromUtf8 } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { parseJson } from "@caisson/vocabulary/json";
import { limits } from "@caisson/vocabulary/limits";
import {
  hex,
  list,
  object,
  oneOf,
  optional,
  record,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import type { AmdCollateral } from "../../amd/collateral.ts";
import { REPORT_SIZE } from "../../amd/report.ts";
import { VerifyError } from "../../errors.ts";
import { type Collateral, readCollateral } from "../../intel/collateral.ts";
import { collateralOfAnswers } from "../../intel/pcs-answers.ts";
import { pemToDer } from "../../pki/pem.ts";
import type { AnyEvidence, ReportDataClaim } from "../evidence.ts";
import { GzipError, gunzip, isGzip } from "../gzip.ts";
import { base64, readPart } from "./fields.ts";

const uri = "https://tinfoil.sh/";
/** What begins the name of each of its formats. */
export const tinfoilPredicate = `${uri}predicate/`;

const lowerHex =
  (size: number): Schema<Uint8Array> =>
  (value) => {
    if (typeof value !== "string" || value !== value.toLowerCase()) {
      throw new SchemaError("", "expected hexadecimal in lower case");
    }
    return fromHex(hex(size)(value))!;
  };
const anything: Schema<unknown> = (value) => value;
const shortText = text("a name", /^[\x20-\x7e]+$/, 256);

const version2 = object({
  format: oneOf(`${tinfoilPredicate}sev-snp-guest/v2`, `${tinfoilPredicate}tdx-guest/v2`),
  body: base64(limits.quote),
});

const section = <T>(name: string, item: Schema<T>) =>
  object({ format: oneOf(`${uri}${name}/v1`), items: list(item, 0, 32) });
const cryptoMaterial = section(
  "crypto-material",
  object({
    id: shortText,
    format: shortText,
    data: text("hexadecimal in lower case", /^(?:[0-9a-f]{2})+$/, 4096),
  }),
);
const deviceEvidence = section(
  "device-evidence",
  object({
    id: shortText,
    kind: optional(anything),
    vendor: optional(anything),
    format: optional(anything),
    evidence: optional(anything),
  }),
);

const version3 = object({
  format: oneOf(`${tinfoilPredicate}attestation/v3`),
  challenge: object({
    nonce: lowerHex(32),
    report_data: lowerHex(64),
    report_data_algorithm: oneOf(`${uri}report-data/v1`),
  }),
  cpu_evidence: object({
    format: oneOf(`${uri}format/sev-snp-report/v1`, `${uri}format/tdx-quote/v1`),
    report_base64: base64(limits.quote),
    endorsed: object({ crypto_material_hash: lowerHex(32), device_evidence_hash: lowerHex(32) }),
  }),
  crypto_material: base64(limits.document),
  device_evidence: base64(limits.document),
  collateral: optional(
    list(
      object({
        id: shortText,
        role: shortText,
        format: shortText,
        subjects: optional(anything),
        data: optional(anything),
      }),
      0,
      32,
    ),
  ),
});

const malformed = (what: string, where: string): never => {
  throw new VerifyError("evidence/malformed", `this Tinfoil document is malformed: ${what}`, { where });
};

/** Reads either version. Throws VerifyError "evidence/…". */
export function readTinfoil(value: unknown): AnyEvidence {
  const { format } = value as { format: string };
  if (format.endsWith("guest/v2")) return readVersion2(value);
  if (format.endsWith("attestation/v3")) return readVersion3(value);
  throw new VerifyError("evidence/unsupported", "this Tinfoil document is of another format", {
    expected: "sev-snp-guest/v2, tdx-guest/v2 or attestation/v3",
    actual: format.slice(tinfoilPredicate.length, tinfoilPredicate.length + 64),
  });
}

function readVersion2(value: unknown): AnyEvidence {
  const { format, body } = readPart(version2, value, "Tinfoil document");
  return ofHardware(format.includes("sev-snp"), unpacked(body));
}

function unpacked(body: Uint8Array): Uint8Array {
  if (!isGzip(body)) return malformed("it is not compressed", "body");
  try {
    return gunzip(body, limits.quote);
  } catch (error) {
    if (!(error instanceof GzipError)) throw error;
    return malformed(`gzip: ${error.message}`, "body");
  }
}

function ofHardware(snp: boolean, bytes: Uint8Array): AnyEvidence {
  if (!snp) return { platform: "tdx", quote: bytes };
  if (bytes.length !== REPORT_SIZE) malformed(`a SEV-SNP report has ${REPORT_SIZE} bytes`, "the report");
  return { platform: "snp", report: bytes };
}

function readVersion3(value: unknown): AnyEvidence {
  const document = readPart(version3, value, "Tinfoil document");
  const { challenge, cpu_evidence: cpu, crypto_material, device_evidence, collateral = [] } = document;
  unique("crypto_material", readSection("crypto_material", cryptoMaterial, crypto_material));
  unique("device_evidence", readSection("device_evidence", deviceEvidence, device_evidence));
  unique("collateral", collateral);
  const reportData: ReportDataClaim = {
    scheme: "tinfoil/v1",
    fields: {
      nonce: challenge.nonce,
      cryptoMaterial: crypto_material,
      deviceEvidence: device_evidence,
      cryptoMaterialHash: cpu.endorsed.crypto_material_hash,
      deviceEvidenceHash: cpu.endorsed.device_evidence_hash,
      reportData: challenge.report_data,
    },
  };
  const evidence = ofHardware(cpu.format.includes("sev-snp"), cpu.report_base64);
  const dataOf = (name: string) =>
    collateral.find(({ format }) => format === `${uri}collateral/${name}/v1`)?.data;
  if (evidence.platform === "snp") {
    const amd = amdCollateral(dataOf("amd-vcek"), dataOf("amd-crl"));
    return { ...evidence, reportData, ...(amd && { collateral: amd }) };
  }
  const intel = intelCollateral(dataOf("intel-pcs"));
  return { ...evidence, reportData, ...(intel && { collateral: intel }) } as AnyEvidence;
}

function readSection<T extends { items: { id: string }[] }>(
  name: string,
  schema: Schema<T>,
  bytes: Uint8Array,
): T["items"] {
  let section: unknown;
  try {
    section = parseJson(fromUtf8(bytes));
  } catch (error) {
    return malformed(messageOf(error), name);
  }
  return readPart(schema, section, `Tinfoil document's ${name}`).items;
}

function unique(where: string, items: readonly { id: string }[]): void {
  const ids = items.map(({ id }) => id);
  const twice = ids.find((id, i) => ids.indexOf(id) !== i);
  if (twice !== undefined) malformed(`the id ${twice} occurs twice`, where);
}

const amdVcek = object({
  vcek_der_base64: base64(16 << 10),
  cert_chain_pem: text("PEM", /^-----BEGIN CERTIFICATE-----/, 64 << 10),
});
const amdCrl = object({ crl_der_base64: base64(1 << 20) });

function amdCollateral(vcek: unknown, crl: unknown): AmdCollateral | undefined {
  if (vcek === undefined) return undefined;
  const { vcek_der_base64: endorsement, cert_chain_pem } = readPart(amdVcek, vcek, "Tinfoil document's VCEK");
  return {
    endorsement,
    chain: pemToDer(cert_chain_pem),
    ...(crl !== undefined && { crl: readPart(amdCrl, crl, "Tinfoil document's list").crl_der_base64 }),
  };
}

const pcsAnswers = object({
  responses: list(
    object({
      url: text("an address", /^https:\/\//, 1024),
      headers: record(/^[A-Za-z0-9-]{1,64}$/, list(text("a header", /^/, 64 << 10), 0, 8), 64),
      body_base64: base64(1 << 20),
    }),
    0,
    16,
  ),
});

/** PCS's answers as they came; undefined where some are missing, which is not the evidence's fault. */
function intelCollateral(data: unknown): Collateral | undefined {
  if (data === undefined) return undefined;
  const { responses } = readPart(pcsAnswers, data, "Tinfoil document's collateral");
  const answers = responses.map(({ url, headers, body_base64 }) => {
    const lower = Object.fromEntries(
      Object.entries(headers).map(([name, [first]]) => [name.toLowerCase(), first]),
    );
    return { path: new URL(url).pathname, header: (name: string) => lower[name], body: body_base64 };
  });
  const collateral = collateralOfAnswers(answers);
  return collateral && readCollateral(collateral);
}

/** Keys and other values that the report binds, for people; nothing where the evidence is not of version 3. */
export function tinfoilItems(claim: ReportDataClaim | undefined): Record<string, string> | undefined {
  const bytes = claim?.scheme === "tinfoil/v1" ? claim.fields.cryptoMaterial : undefined;
  if (bytes === undefined) return undefined;
  const items = readSection("crypto_material", cryptoMaterial, bytes);
  return Object.fromEntries(
    items.map(({ id, format, data }) => [id, `${data} (${format.replace(uri, "")})`]),
  );
}
