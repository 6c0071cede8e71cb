// SPDX-License-Identifier: Apache-2.0
/**
 * Every form in which evidence comes: what each is recognised by, and how it is read. The first form that recognises an
 * input reads it, and says what is wrong with it; what none recognises is unsupported, and so is what is recognised as
 * another platform's evidence: nothing is said about whether that is genuine.
 *
 * A form that needs much to be read and is rare is in `every-form.ts` alone, so that nobody carries it who never gets it.
 */

import { fromBase64, fromHex, fromUtf8 } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { parseJson } from "@caisson/vocabulary/json";
import { limits } from "@caisson/vocabulary/limits";
import { either, object, type Schema } from "@caisson/vocabulary/schema";
import { REPORT_SIZE } from "../../amd/report.ts";
import { isNitroDocument } from "../../aws/document.ts";
import { VerifyError } from "../../errors.ts";
import { type AnyEvidence, type Evidence, isQuote } from "../evidence.ts";
import { readAnyDocument } from "./caisson.ts";
import { readDstackQuote } from "./dstack.ts";
import { base64, hexBytes, readPart } from "./fields.ts";
import { readAzureSnp, readAzureTdx, readCocoSnp, readRawHcl, readRawReport } from "./snp.ts";

/** An input once decoded: the bytes (of hexadecimal or base64 text, what it encodes), or the JSON object. */
export type Decoded = { bytes: Uint8Array } | { document: Readonly<Record<string, unknown>> };

/** One form of evidence. */
export interface Form {
  /** As a report names it. */
  readonly name: string;
  /** What it is recognised by, for people. */
  readonly recognised: string;
  /** Whether it can be read; else it is recognised to be named. */
  readonly judged: boolean;
  readonly recognises: (input: Decoded) => boolean;
  /** `among`: the list in which it was found. Throws VerifyError "evidence/malformed" or "evidence/unsupported". */
  readonly read: (input: Decoded, among: readonly Form[]) => AnyEvidence;
}

/** A form that is a JSON object; without `read` one that is not judged here. */
export function document(
  name: string,
  recognised: string,
  recognises: (document: Readonly<Record<string, unknown>>) => boolean,
  read?: (document: Readonly<Record<string, unknown>>, among: readonly Form[]) => AnyEvidence,
): Form {
  return {
    name,
    recognised,
    judged: read !== undefined,
    recognises: (input) => "document" in input && recognises(input.document),
    read: (input, among) =>
      (read ?? (() => notJudged(name)))((input as Extract<Decoded, { document: unknown }>).document, among),
  };
}

/** A form that is bytes, or a text of them; without `read` one that is not judged here. */
export function binary(
  name: string,
  recognised: string,
  recognises: (bytes: Uint8Array) => boolean,
  read?: (bytes: Uint8Array) => AnyEvidence,
): Form {
  return {
    name,
    recognised,
    judged: read !== undefined,
    recognises: (input) => "bytes" in input && recognises(input.bytes),
    read: (input) => (read ?? (() => notJudged(name)))((input as Extract<Decoded, { bytes: unknown }>).bytes),
  };
}

/** Evidence of something that is not judged here: said by name, so that nobody takes it for a broken quote. */
const notJudged = (name: string): Evidence => {
  throw new VerifyError("evidence/unsupported", `this is ${name}, which is not judged here`, {
    expected: judgedForms(forms),
  });
};
const judgedForms = (among: readonly Form[]): string =>
  among.flatMap(({ name, judged }) => (judged ? [name] : [])).join("; ");

const u32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const has = (document: object, ...fields: string[]) =>
  fields.every((field) => Object.hasOwn(document, field));

const quoteBytes: Schema<Uint8Array> = either("hexadecimal or base64", withPrefix, base64(limits.quote));
function withPrefix(value: unknown): Uint8Array {
  return hexBytes(limits.quote)(typeof value === "string" ? value.replace(/^0x/i, "") : value);
}
const quoteDocument = object({ quote: quoteBytes }, "loose");

const cocoDocument = object({ quote: base64(limits.quote), cc_eventlog: base64(limits.bootLog) }, "loose");
function readCocoEvidence(value: unknown): Evidence {
  const { quote, cc_eventlog } = readPart(cocoDocument, value, "CoCo document");
  return { platform: "tdx", quote, bootLog: { format: "tcg2", bytes: cc_eventlog } };
}

/** Of one TEE: a document of two is of none. */
function trustAuthorityPart(document: Readonly<Record<string, unknown>>): object | undefined {
  const parts = [document.tdx, document.sgx].filter((part) => typeof part === "object" && part !== null);
  return parts.length === 1 && has(parts[0]!, "quote") ? parts[0]! : undefined;
}

const isReport = (bytes: Uint8Array): boolean =>
  bytes.length >= REPORT_SIZE && u32(bytes, 0) >= 2 && u32(bytes, 0) <= 5 && u32(bytes, 0x34) === 1;

const fromQuote = (quote: Uint8Array): Evidence => ({ platform: "tdx", quote });

/** In the order in which they are asked. */
export const forms: readonly Form[] = [
  document(
    "a caisson/evidence/v1 document",
    'JSON with version: "caisson/evidence/v1"',
    ({ version }) => typeof version === "string" && version.startsWith("caisson/evidence/"),
    readAnyDocument,
  ),
  document(
    "a dstack GetQuote answer",
    "JSON with quote and event_log",
    (value) => has(value, "quote", "event_log"),
    readDstackQuote,
  ),
  document(
    "CoCo's TDX evidence",
    "JSON with quote and cc_eventlog (base64)",
    (value) => has(value, "quote", "cc_eventlog"),
    readCocoEvidence,
  ),
  document(
    "Azure's TDX evidence: the paravisor's quote, its HCL report and the virtual TPM's quote",
    "JSON with td_quote and hcl_report (base64url)",
    (value) => has(value, "td_quote", "hcl_report"),
    readAzureTdx,
  ),
  document(
    "Azure's SEV-SNP evidence: HCL report, VCEK and the virtual TPM's quote",
    "JSON with hcl_report (base64url) and no td_quote",
    (value) => has(value, "hcl_report"),
    readAzureSnp,
  ),
  document(
    "CoCo's SEV-SNP evidence",
    "JSON with attestation_report (base64)",
    (value) => has(value, "attestation_report"),
    readCocoSnp,
  ),
  document(
    "Intel Trust Authority's evidence",
    "JSON with tdx or sgx, an object with quote (base64)",
    (value) => trustAuthorityPart(value) !== undefined,
    // Its log and data are hashed by rules of its own: what counts here is the quote.
    (value) =>
      fromQuote(readPart(quoteDocument, trustAuthorityPart(value), "evidence of Trust Authority").quote),
  ),
  document(
    "evidence inside a document that names its platform",
    "JSON with platform and evidence (an object)",
    // One level: an inner document that is such a document again is none.
    ({ platform, evidence }) =>
      platform !== undefined &&
      typeof evidence === "object" &&
      evidence !== null &&
      !Object.hasOwn(evidence, "evidence"),
    (value, among) => readDecoded({ document: value.evidence as Readonly<Record<string, unknown>> }, among),
  ),
  document(
    "a quote, or a SEV-SNP report under that name, in JSON",
    "JSON with quote (hexadecimal or base64)",
    (value) => has(value, "quote"),
    (value) => {
      const { quote } = readPart(quoteDocument, value, "document");
      return isReport(quote) ? readRawReport(quote) : fromQuote(quote);
    },
  ),
  binary(
    "an Azure HCL report (a vTPM's)",
    'bytes that begin with "HCLA"',
    (bytes) => fromUtf8(bytes.subarray(0, 4)) === "HCLA",
    readRawHcl,
  ),
  binary(
    "a SEV-SNP report (binary, hexadecimal or base64), alone or with its table of certificates",
    `${REPORT_SIZE} bytes or more, version 2 to 5 as a u32, signature algorithm 1`,
    isReport,
    readRawReport,
  ),
  binary(
    "an AWS Nitro attestation document (an enclave's or a NitroTPM's)",
    "a COSE_Sign1 structure of four parts",
    isNitroDocument,
    (document) => ({ platform: "nitro", document }),
  ),
  binary(
    "a quote (binary, hexadecimal or base64)",
    "its version, 3 to 5, as a little-endian u16",
    (bytes) => bytes[1] === 0 && bytes[0]! >= 3 && bytes[0]! <= 5,
    fromQuote,
  ),
];

/** How a list of forms reads. */
export interface Reader {
  /**
   * Reads evidence in any of the forms. `bootLog` may add a CCEL area to a form that has none. Throws VerifyError
   * "evidence/…".
   */
  readonly readEvidence: (input: Uint8Array, bootLog?: Uint8Array) => AnyEvidence;
  /** Whether an input is evidence in some form, broken or not, and be it one that is not judged here. */
  readonly isEvidence: (input: Uint8Array) => boolean;
}

export const readerOf = (among: readonly Form[]): Reader => ({
  readEvidence: (input, bootLog) => {
    if (input.length > limits.document || (bootLog?.length ?? 0) > limits.bootLog) {
      throw new VerifyError("evidence/size", "this evidence is too large", {
        expected: `at most ${limits.document} bytes, and a boot log of at most ${limits.bootLog}`,
        actual: `${input.length} and ${bootLog?.length ?? 0} bytes`,
      });
    }
    const evidence = readDecoded(decode(input), among);
    return bootLog === undefined ? evidence : withBootLog(evidence, bootLog);
  },
  isEvidence: (input) => input.length <= limits.document && recognise(decode(input), among) !== undefined,
});

function withBootLog(evidence: AnyEvidence, bootLog: Uint8Array): AnyEvidence {
  if (!isQuote(evidence)) {
    throw new VerifyError(
      "evidence/malformed",
      "this evidence has no registers that a boot log could explain",
    );
  }
  if (evidence.bootLog !== undefined) {
    throw new VerifyError("evidence/malformed", "this evidence has a boot log of its own");
  }
  return { ...evidence, bootLog: { format: "tcg2", bytes: bootLog } };
}

export const { readEvidence, isEvidence } = readerOf(forms);

/** What a document says of the hardware, by its fields; those of one kind belong together. */
const hardwareFields: Readonly<Record<string, string>> = {
  quote: "a quote",
  td_quote: "Azure's",
  hcl_report: "Azure's",
  attestation_report: "a SEV-SNP report",
  attestation: "a dstack attestation",
  cpu_evidence: "Tinfoil's",
  tdx: "Trust Authority's",
  sgx: "Trust Authority's, of an enclave",
};

/** One document is evidence of one guest: of two, readers would not agree on which counts. */
function checkOneKind(document: Readonly<Record<string, unknown>>): void {
  const kinds = new Set(
    Object.keys(hardwareFields).flatMap((field) => (has(document, field) ? hardwareFields[field]! : [])),
  );
  if (kinds.size > 1) {
    throw new VerifyError("evidence/malformed", "this document holds evidence of more than one kind", {
      actual: [...kinds].join(", "),
    });
  }
}

function readDecoded(decoded: Decoded, among: readonly Form[]): AnyEvidence {
  if ("document" in decoded) checkOneKind(decoded.document);
  const form = recognise(decoded, among);
  if (form === undefined) {
    throw new VerifyError("evidence/unsupported", "this is not evidence in a form that is known here", {
      expected: judgedForms(among),
    });
  }
  return form.read(decoded, among);
}

const recognise = (decoded: Decoded, among: readonly Form[]): Form | undefined =>
  among.find(({ recognises }) => recognises(decoded));

/** JSON, or a text of bytes (hexadecimal with or without 0x, base64; line breaks do not matter), or bytes themselves. */
export function decode(input: Uint8Array): Decoded {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(input).trim();
  } catch {
    return { bytes: input };
  }
  if (text.startsWith("{")) return { document: parseObject(text) };
  const packed = text.replace(/\s+/g, "");
  const bytes = fromHex(packed.replace(/^0x/i, "")) ?? fromBase64(packed);
  return { bytes: bytes === undefined || bytes.length === 0 ? input : bytes };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return parseJson(text) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new VerifyError("evidence/malformed", `this evidence is not JSON: ${messageOf(error)}`);
  }
}
