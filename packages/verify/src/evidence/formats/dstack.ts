// SPDX-License-Identifier: Apache-2.0
/** dstack's `GetQuote` answer: quote, event log and report data of one TD. The log is read by measure's one parser. */
import { MeasureError } from "@caisson/measure";
import { type DstackRecord, readDstackLog } from "@caisson/measure/dstack-log";
import { limits } from "@caisson/vocabulary/limits";
import { object, optional, type Schema, text } from "@caisson/vocabulary/schema";
import { VerifyError } from "../../errors.ts";
import type { BootLog, Evidence, LoggedEvent } from "../evidence.ts";
import { hexBytes, readPart } from "./fields.ts";

/** The log as a JSON text, or as the list itself. */
const eventLog: Schema<string> = (value) =>
  Array.isArray(value) ? JSON.stringify(value) : text("a JSON text or a list", /^/, limits.document)(value);

const schema = object(
  { quote: hexBytes(limits.quote), event_log: eventLog, report_data: optional(hexBytes(64)) },
  "loose",
);

/** Reads a parsed answer. Throws VerifyError "evidence/malformed", or "evidence/unsupported" for other events in RTMR3. */
export function readDstackQuote(document: unknown): Evidence {
  const { quote, event_log, report_data } = readPart(schema, document, "GetQuote answer");
  return dstackEvidence(quote, event_log, report_data);
}

/** Evidence of a dstack guest, its log as JSON text. Throws as `readDstackQuote` does. */
export function dstackEvidence(
  quote: Uint8Array,
  event_log: string,
  report_data: Uint8Array | undefined,
): Evidence {
  const boot: Extract<BootLog, { format: "events" }>["events"] = [];
  const runtimeEvents: LoggedEvent[] = [];
  for (const { register, name, data, logged, encoding } of readLog(event_log)) {
    if (encoding !== undefined) runtimeEvents.push({ name, payload: data, logged, encoding });
    else if (register !== "rtmr3") boot.push({ register: registers[register], digest: logged });
    else {
      throw new VerifyError(
        "evidence/unsupported",
        "an event in RTMR3 is not one of dstack's runtime events",
        {
          where: name,
        },
      );
    }
  }
  return {
    platform: "tdx",
    quote,
    ...(isWhole(boot) && { bootLog: { format: "events", events: boot } }),
    runtimeEvents,
    ...(report_data === undefined ? {} : { reportData: { scheme: "raw", fields: { data: report_data } } }),
  };
}

/**
 * dstack strips the log of an attestation down to the runtime events, and to three of RTMR0 (the ACPI tables): what is left of
 * the boot replays to nothing, and is not a boot log. Every boot has events in RTMR1 and RTMR2.
 */
const isWhole = (boot: readonly { register: number }[]): boolean =>
  [1, 2].every((wanted) => boot.some(({ register }) => register === wanted));

const registers = { rtmr0: 0, rtmr1: 1, rtmr2: 2 } as const;

function readLog(source: string): DstackRecord[] {
  try {
    return readDstackLog(source);
  } catch (error) {
    if (!(error instanceof MeasureError)) throw error;
    throw new VerifyError("evidence/malformed", `this event log is malformed: ${error.message}`);
  }
}
