// SPDX-License-Identifier: Apache-2.0
/**
 * Evidence: everything a relying party needs to judge one TD, in one document.
 *
 * Nothing in it is trusted. The quote is judged by its signatures; logs count only as far as they replay to the
 * quote's registers; the collateral is judged by its own signatures; report-data fields count only when they hash
 * to the quote's report data. Every size is bounded before anything is decoded.
 */
import type { RuntimeEvent } from "@caisson/vocabulary/events";
import type { Platform } from "@caisson/vocabulary/platforms";
import type { AmdCollateral } from "../amd/collateral.ts";
import type { Collateral } from "../intel/collateral.ts";
import type { Hcl } from "./hcl.ts";
import type { ReportDataScheme } from "./report-data.ts";

/** A measured-boot log: as firmware wrote it, or (dstack) already taken apart. */
export type BootLog =
  | { format: "tcg2"; bytes: Uint8Array }
  | { format: "events"; events: { register: 0 | 1 | 2; digest: Uint8Array }[] };

/** Ours (`reportDataSchemes`), the bytes themselves, and Tinfoil's of its version 3. */
export type ClaimScheme = ReportDataScheme | "raw" | "tinfoil/v1";

/** What the report data in the quote is said to bind. `raw`: the field `data` is the report data, zero-padded. */
export interface ReportDataClaim {
  scheme: ClaimScheme;
  fields: Record<string, Uint8Array>;
}

/** A runtime event, with what a log says of its digest; without, it is encoded as a Caisson guest does (1). */
export interface LoggedEvent extends RuntimeEvent {
  readonly encoding?: 1 | 2;
  /** The digest that the log claims; empty or absent: none. It is never used, and must be right. */
  readonly logged?: Uint8Array;
}

/** Evidence of a quote (Intel's, or one in its form), decoded but not judged. */
export interface Evidence {
  platform: Platform;
  quote: Uint8Array;
  bootLog?: BootLog;
  /** Undefined when the source carries none, which is not the same as an empty log. */
  runtimeEvents?: LoggedEvent[];
  reportData?: ReportDataClaim;
  collateral?: Collateral;
  /** What its owners say of the image (`caisson/bundle/v1`, parsed JSON); each part of it proves itself, or does not count. */
  release?: unknown;
  /** Which manifest the TD says it booted; a hint for finding it, never a proof. */
  manifest?: { sha256: string };
  /** Azure's: what ties a virtual TPM to the quote, whose registers cover the paravisor alone. */
  hcl?: Hcl;
}

/** Evidence of an AMD SEV-SNP guest, decoded but not judged. Its name is no `Platform` that a guest of ours runs on yet. */
export interface SnpEvidence {
  platform: "snp";
  /** 1184 bytes. */
  report: Uint8Array;
  collateral?: AmdCollateral;
  reportData?: ReportDataClaim;
  hcl?: Hcl;
}

/** An attestation document of AWS Nitro. It needs no collateral, and says itself what it binds. */
export interface NitroEvidence {
  platform: "nitro";
  document: Uint8Array;
  hcl?: undefined;
  reportData?: undefined;
}

/** Evidence of any kind that is judged here; `platform` tells them apart. */
export type AnyEvidence = Evidence | SnpEvidence | NitroEvidence;

/** Whether evidence is a quote: Intel's, or one in its form. */
export const isQuote = (evidence: AnyEvidence): evidence is Evidence => "quote" in evidence;
