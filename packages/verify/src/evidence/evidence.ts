/**
 * Evidence: everything a relying party needs to judge one TD, in one document.
 *
 * Nothing in it is trusted. The quote is judged by its signatures; logs count only as far as they replay to the
 * quote's registers; the collateral is judged by its own signatures; report-data fields count only when they hash
 * to the quote's report data. Every size is bounded before anything is decoded.
 */
import { fromBase64, fromHex, toBase64, toHex } from "@caisson/vocabulary/bytes";
import type { RuntimeEvent } from "@caisson/vocabulary/events";
import { limits } from "@caisson/vocabulary/limits";
import { type Platform, platforms } from "@caisson/vocabulary/platforms";
import { VerifyError } from "../errors.ts";
import { type Collateral, collateralSchema } from "../intel/collateral.ts";
import { hex, list, object, oneOf, optional, record, type Schema, SchemaError, text } from "../schema.ts";
import { type ReportDataScheme, reportDataSchemes } from "./report-data.ts";

/** A measured-boot log: as firmware wrote it, or (dstack) already taken apart. */
export type BootLog =
  | { format: "tcg2"; bytes: Uint8Array }
  | { format: "events"; events: { register: 0 | 1 | 2; digest: Uint8Array }[] };

/** What the report data in the quote is said to bind. `raw`: the field `data` is the report data, zero-padded. */
export interface ReportDataClaim {
  scheme: ReportDataScheme | "raw";
  fields: Record<string, Uint8Array>;
}

/** Evidence, decoded but not judged. */
export interface Evidence {
  platform: Platform;
  quote: Uint8Array;
  bootLog?: BootLog;
  /** Undefined when the source carries none, which is not the same as an empty log. */
  runtimeEvents?: RuntimeEvent[];
  reportData?: ReportDataClaim;
  collateral?: Collateral;
  /** Which manifest the TD says it booted; a hint for finding it, never a proof. */
  manifest?: { sha256: string };
}

function base64(most: number): Schema<Uint8Array> {
  const longest = Math.ceil(most / 3) * 4;
  return (value) => {
    const bytes = typeof value === "string" && value.length <= longest ? fromBase64(value) : undefined;
    if (bytes === undefined) throw new SchemaError("", `expected canonical base64 of at most ${most} bytes`);
    return bytes;
  };
}

/** Hexadecimal text of at most `most` bytes, decoded. */
function hexBytes(most: number): Schema<Uint8Array> {
  const schema = hex([0, most]);
  return (value) => fromHex(schema(value))!;
}

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
    limits.runtimeEvents,
  ),
  reportData: object({
    scheme: oneOf(...(Object.keys(reportDataSchemes) as ReportDataScheme[]), "raw"),
    fields: record(/^[a-zA-Z]{1,32}$/, hexBytes(limits.reportDataField), 8),
  }),
  collateral: optional(collateralSchema),
  manifest: optional(object({ sha256: hex(32) })),
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
}

function read<T>(schema: Schema<T>, value: unknown, what: string): T {
  try {
    return schema(value);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError("evidence/malformed", `this ${what} is malformed: ${error.message}`, {
      where: error.path || "the whole document",
    });
  }
}

/** Reads a parsed `caisson/evidence/v1` document. Throws VerifyError "evidence/malformed". */
export function readEvidenceDocument(document: unknown): Evidence {
  const { bootLog, version: _, ...rest } = read(documentSchema, document, "evidence document");
  return { ...rest, ...(bootLog === undefined ? {} : { bootLog: { format: "tcg2", bytes: bootLog } }) };
}

/** The document for evidence whose boot log, if any, is in firmware's form. The opposite of reading. */
export function writeEvidenceDocument(evidence: Evidence): EvidenceDocument {
  const { platform, quote, bootLog, runtimeEvents = [], reportData, collateral, manifest } = evidence;
  const fields = Object.entries(reportData?.fields ?? {}).map(
    ([name, value]) => [name, toHex(value)] as const,
  );
  return {
    version: "caisson/evidence/v1",
    platform,
    quote: toBase64(quote),
    ...(bootLog?.format === "tcg2" ? { bootLog: toBase64(bootLog.bytes) } : {}),
    runtimeEvents: runtimeEvents.map(({ name, payload }) => ({ name, payload: toHex(payload) })),
    reportData: { scheme: reportData?.scheme ?? "raw", fields: Object.fromEntries(fields) },
    ...(collateral === undefined ? {} : { collateral }),
    ...(manifest === undefined ? {} : { manifest }),
  };
}

const dstackSchema = object(
  {
    quote: hexBytes(limits.quote),
    event_log: text("a JSON text", /^\s*\[/, limits.document),
    report_data: optional(hexBytes(64)),
  },
  "loose",
);

const dstackEvents = list(
  object(
    {
      imr: oneOf(0, 1, 2, 3),
      event_type: (value) => {
        if (!Number.isSafeInteger(value)) throw new SchemaError("", "expected a whole number");
        return value as number;
      },
      digest: hexBytes(48),
      event: text("an event name, at most 256", /^/, 256),
      event_payload: hexBytes(limits.bootLog),
    },
    "loose",
  ),
  4096,
);

/**
 * Reads what dstack's `GetQuote` answers. Digests of its RTMR3 events are dropped on purpose: they are recomputed
 * from names and payloads (dstack leaves them out of stripped logs, and logged ones prove nothing).
 */
export function readDstackQuote(document: unknown): Evidence {
  const { quote, event_log, report_data } = read(dstackSchema, document, "GetQuote answer");
  const events = read(dstackEvents, parseJson(event_log, "event log"), "event log");
  const boot: Extract<BootLog, { format: "events" }>["events"] = [];
  const runtimeEvents: RuntimeEvent[] = [];
  for (const { imr, digest, event, event_payload } of events) {
    if (imr === 3) runtimeEvents.push({ name: event, payload: event_payload });
    else boot.push({ register: imr, digest });
  }
  return {
    platform: "tdx",
    quote,
    bootLog: { format: "events", events: boot },
    runtimeEvents,
    ...(report_data === undefined ? {} : { reportData: { scheme: "raw", fields: { data: report_data } } }),
  };
}

function parseJson(source: string, what: string): unknown {
  try {
    return JSON.parse(source);
  } catch (error) {
    throw new VerifyError("evidence/malformed", `this ${what} is not JSON: ${(error as Error).message}`);
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/**
 * Reads evidence in any of its forms: a Caisson document, dstack's GetQuote answer, a raw quote, or a raw quote in
 * hexadecimal. `bootLog` may add a CCEL area to a form that has none. Throws VerifyError "evidence/…".
 */
export function readEvidence(input: Uint8Array, bootLog?: Uint8Array): Evidence {
  if (input.length > limits.document || (bootLog?.length ?? 0) > limits.bootLog) {
    throw new VerifyError("evidence/size", "this evidence is too large", {
      expected: `at most ${limits.document} bytes, and a boot log of at most ${limits.bootLog}`,
      actual: `${input.length} and ${bootLog?.length ?? 0} bytes`,
    });
  }
  const evidence = readAnyForm(input);
  if (bootLog === undefined) return evidence;
  if (evidence.bootLog !== undefined) {
    throw new VerifyError("evidence/malformed", "this evidence has a boot log of its own");
  }
  return { ...evidence, bootLog: { format: "tcg2", bytes: bootLog } };
}

function readAnyForm(input: Uint8Array): Evidence {
  // A quote starts with its version, 3 to 5, as a little-endian u16.
  if (input.length >= 2 && input[1] === 0 && input[0]! >= 3 && input[0]! <= 5) {
    return { platform: "tdx", quote: input };
  }
  let source: string;
  try {
    source = new TextDecoder("utf-8", { fatal: true }).decode(input).trim();
  } catch {
    throw new VerifyError("evidence/unsupported", "this is neither text nor a quote of version 3 to 5");
  }
  if (!source.startsWith("{")) {
    const quote = fromHex(source.replace(/^0x/, ""));
    if (quote === undefined || quote.length === 0) {
      throw new VerifyError("evidence/unsupported", "this is no evidence in a form that is known here", {
        expected:
          "a caisson/evidence/v1 document, a dstack GetQuote answer, or a quote (binary or hexadecimal)",
      });
    }
    return { platform: "tdx", quote };
  }
  const document = parseJson(source, "evidence");
  return isObject(document) && "event_log" in document && !("version" in document)
    ? readDstackQuote(document)
    : readEvidenceDocument(document);
}
