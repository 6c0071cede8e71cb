// SPDX-License-Identifier: Apache-2.0
/**
 * What evidence is judged by, from files: policy, reference values, collateral, time. One reading for every command, so
 * that the same file is taken, or refused with the same exit code, wherever it is named.
 */
import {
  type AmdCollateral,
  type AnyEvidence,
  type CheckCode,
  type Collateral,
  type ErrorCode,
  type Policy,
  type Reference,
  readAmdCollateral,
  readReferences,
  VerifyError,
} from "@caisson/verify";
import { isAmdCollateral } from "@caisson/verify/amd-collateral";
import { saysNothing } from "@caisson/verify/certainty";
import { collateralFromText } from "@caisson/verify/collateral-forms";
import { checkOf } from "@caisson/verify/errors";
import { isEvidence, readEvidence } from "@caisson/verify/every-form";
import { notEvidence } from "@caisson/verify/not-evidence";
import { readPolicyText } from "@caisson/verify/policy-text";
import { Failure } from "@caisson/vocabulary/failure";
import { limits } from "@caisson/vocabulary/limits";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { UsageError } from "./failure.ts";
import { readInput } from "./input-file.ts";

/**
 * A file that belongs to evidence; `-` is standard input. Throws UsageError where it cannot be read, VerifyError
 * "evidence/size".
 */
export function readBounded(path: string): Uint8Array {
  try {
    const bytes = readInput(path, limits.document);
    if (bytes.length <= limits.document) return new Uint8Array(bytes);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`, "check the path");
  }
  throw new VerifyError("evidence/size", `${path} is larger than ${limits.document} bytes`);
}

/**
 * Evidence in any of its forms. What is not evidence is called by its name where it has one, with what to do. Throws
 * VerifyError "evidence/…".
 */
export function evidenceOf(bytes: Uint8Array, bootLog?: Uint8Array): AnyEvidence {
  refuseNotEvidence(bytes);
  return readEvidence(bytes, bootLog);
}

/** Throws VerifyError "evidence/unsupported" for what people hold in place of evidence. */
export function refuseNotEvidence(bytes: Uint8Array): void {
  const other = notEvidence(bytes);
  if (other === undefined || isKnown(bytes)) return;
  throw new VerifyError("evidence/unsupported", `this is ${other.what}, and no evidence by itself`, {
    fix: other.fix,
  });
}

/** Broken evidence is named by who reads it. */
function isKnown(bytes: Uint8Array): boolean {
  try {
    return isEvidence(bytes);
  } catch {
    return false;
  }
}

/** What bytes are refused with that are not what they call themselves: evidence, or certificates in it. */
const notTheForm: ReadonlySet<CheckCode> = new Set([
  "quote/size",
  "quote/truncated",
  "quote/version",
  "quote/header",
  "quote/body",
  "quote/signature-data",
  "quote/certification-data",
  "quote/trailing-bytes",
  "snp/size",
  "snp/vmpl",
  "snp/tcb-layout",
  "nitro/malformed",
  "nitro/algorithm",
  "der/malformed",
  "pem/malformed",
  "certificate/malformed",
]);

/** A refusal whose exit code is not that of a "no". */
class Unjudged extends Failure<string, "unsupported" | "input"> {
  override readonly name = "Unjudged";
  constructor(kind: "unsupported" | "input", { code, message, facts, fix }: VerifyError) {
    super(code, kind, message, { facts, ...(fix !== undefined && { fix }) });
  }
}

/**
 * For commands that explain evidence and do not judge it. A refusal is a "no" (exit code 10) unless it says nothing of the
 * evidence, such as collateral that is missing, expired or another platform's (20), or the bytes are not evidence (30).
 */
export async function explaining<T>(ask: () => T | Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw unjudged(error);
  }
}
function unjudged(error: unknown): unknown {
  if (!(error instanceof VerifyError) || !isCheck(error.code)) return error;
  if (saysNothing(error.code, "quote")) return new Unjudged("unsupported", error);
  return notTheForm.has(error.code) ? new Unjudged("input", error) : error;
}
const isCheck = (code: ErrorCode): code is CheckCode => checkOf(code) !== undefined;

export const readText = (path: string): string => new TextDecoder().decode(readBounded(path));

function readJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new VerifyError("reference/malformed", `${path} is not JSON: ${error.message}`);
  }
}

/** Throws VerifyError "policy/malformed". */
export const readPolicyFile = (path: string): Policy => readPolicyText(readText(path), path);

/** Throws VerifyError "reference/malformed". */
export const readReferenceFiles = (paths: readonly string[]): Reference[] =>
  paths.flatMap((path) => readReferences(readJson(path), path));

/** In any form that `collateralFromText` knows. Its shape is the verifier's to judge: what it refuses is in the report. */
export const readCollateralFile = (path: string): Collateral => collateralFromText(readText(path), path);

/** Collateral of either vendor, as what judges evidence takes it; a file of AMD's names itself in `version`. */
export function readCollateralFiles(path: string | undefined): {
  collateral?: Collateral;
  amdCollateral?: AmdCollateral;
} {
  if (path === undefined) return {};
  const text = readText(path);
  if (!isAmdCollateral(text)) return { collateral: collateralFromText(text, path) };
  try {
    return { amdCollateral: readAmdCollateral(JSON.parse(text)) };
  } catch (error) {
    throw unjudged(error);
  }
}

/** What an option says is bound in report data: 1 to `most` bytes in hexadecimal. */
export function bytesOf(option: string, hex: string, most = 64): Uint8Array {
  if (/^(?:[0-9a-fA-F]{2})+$/.test(hex) && hex.length <= 2 * most) return Uint8Array.fromHex(hex);
  throw new UsageError(
    `${option} is not a hexadecimal value of 1 to ${most} bytes`,
    "give it as the verifier chose it",
  );
}

/** The time as of which is judged: now, unless an option says which (ISO 8601). */
export function parseTime(text: string | undefined): Date {
  const time = text === undefined ? new Date() : new Date(text);
  if (Number.isNaN(time.getTime()))
    throw new UsageError(`'${text}' is not a time`, "for example 2026-11-23T12:00:00Z");
  return time;
}
