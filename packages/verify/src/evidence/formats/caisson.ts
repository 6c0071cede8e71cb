// SPDX-License-Identifier: Apache-2.0
/** `caisson/evidence/v1`: one JSON document that needs nothing else. A guest writes it, this reads it. */
import { limits } from "@caisson/vocabulary/limits";
import { type Platform, platforms } from "@caisson/vocabulary/platforms";
import { hex, list, object, oneOf, optional, record, text } from "@caisson/vocabulary/schema";
import {
  type AmdCollateral,
  type AmdCollateralDocument,
  amdCollateralSchema,
  readAmdCollateral,
} from "../../amd/collateral.ts";
import { REPORT_SIZE } from "../../amd/report.ts";
import { VerifyError } from "../../errors.ts";
import { type Collateral, collateralSchema } from "../../intel/collateral.ts";
import type { Evidence, SnpEvidence } from "../evidence.ts";
import { type ReportDataScheme, reportDataSchemes } from "../report-data.ts";
import { base64, hexBytes, readPart } from "./fields.ts";

const reportDataSchema = object({
  scheme: oneOf(...(Object.keys(reportDataSchemes) as ReportDataScheme[]), "raw"),
  fields: record(/^[a-zA-Z]{1,32}$/, hexBytes(limits.reportDataField), 8),
});

const documentSchema = object({
  version: oneOf("caisson/evidence/v1"),
  platform: oneOf(...platforms),
  quote: base64(limits.quote),
  bootLog: optional(base64(limits.bootLog)),
  runtimeEvents: list(
    object({
      name: text("a name of [a-z0-9-], at most 64", /^[a-z0-9-]+$/, 64),
      payload: hexBytes(limits.payload),
    }),
    0,
    limits.runtimeEvents,
  ),
  reportData: reportDataSchema,
  collateral: optional(collateralSchema),
  manifest: optional(object({ sha256: hex(32) })),
  release: optional((value: unknown) => value),
});

/** The document `caisson/evidence/v1` as JSON: `quote` and `bootLog` in base64, payloads and fields in hexadecimal. */
export interface EvidenceDocument {
  version: "caisson/evidence/v1";
  platform: Platform;
  quote: string;
  /** TCG2 binary: the CCEL area, or the TPM's log on the emulated platform. */
  bootLog?: string;
  runtimeEvents: { name: string; payload: string }[];
  reportData: { scheme: ReportDataScheme | "raw"; fields: Record<string, string> };
  collateral?: Collateral;
  manifest?: { sha256: string };
  /** `caisson/bundle/v1` (`@caisson/releases`). */
  release?: unknown;
}

const snpSchema = object({
  version: oneOf("caisson/evidence/v1"),
  platform: oneOf("snp"),
  report: base64(REPORT_SIZE),
  reportData: optional(reportDataSchema),
  collateral: optional(amdCollateralSchema),
});

/** The document for a SEV-SNP report: `report` in base64, collateral as `caisson collateral fetch` writes it. */
export type SnpDocument = Omit<Pick<EvidenceDocument, "version" | "reportData">, "reportData"> & {
  platform: "snp";
  report: string;
  reportData?: EvidenceDocument["reportData"];
  collateral?: AmdCollateralDocument;
};

/** Reads a parsed document of any platform. Throws VerifyError "evidence/malformed", "collateral/malformed". */
export function readAnyDocument(document: unknown): Evidence | SnpEvidence {
  const { platform } = document as { platform?: unknown };
  if (platform !== "snp") return readEvidenceDocument(document);
  const { report, reportData, collateral } = readPart(snpSchema, document, "evidence document");
  if (report.length !== REPORT_SIZE) {
    throw new VerifyError("evidence/malformed", "this evidence document holds a report of another size", {
      where: "report",
      expected: `${REPORT_SIZE} bytes`,
    });
  }
  return {
    platform,
    report,
    ...(reportData && { reportData }),
    ...(collateral && { collateral: amdPart(collateral) }),
  };
}

/** Certificates that are not PEM are a fault of the document. */
function amdPart(document: AmdCollateralDocument): AmdCollateral {
  try {
    return readAmdCollateral(document);
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    throw new VerifyError("evidence/malformed", error.message, { where: "collateral" });
  }
}

/** Reads a parsed `caisson/evidence/v1` document of a quote. Throws VerifyError "evidence/malformed". */
export function readEvidenceDocument(document: unknown): Evidence {
  const { bootLog, version: _, ...rest } = readPart(documentSchema, document, "evidence document");
  return { ...rest, ...(bootLog === undefined ? {} : { bootLog: { format: "tcg2", bytes: bootLog } }) };
}
