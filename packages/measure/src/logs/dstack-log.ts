/**
 * dstack's JSON event log: boot events of RTMR0–2 by digest, runtime events of RTMR3 by name and payload.
 *
 * Invariant: a runtime event's digest is always recomputed from name and payload (logs are handed out without, and a
 * logged one proves nothing); one that is logged and disagrees is refused.
 */
import { equal, fromHex } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import type { MeasuredEvent } from "./event-log.ts";
import { REGISTER_SIZE, registerNames } from "./rtmr.ts";
import { RUNTIME_EVENT_TYPE, runtimeEventDigest, runtimeEventDigestV2 } from "./runtime-events.ts";

/** An event of this log; `name` is a runtime event's, or dstack's label of a boot event. */
export interface DstackEvent extends MeasuredEvent {
  name: string;
}

const MAX_EVENTS = 4096;
const MAX_TEXT = 16 << 20;

const malformed = (reason: string, i?: number): MeasureError =>
  new MeasureError("log/malformed", `dstack log: ${i === undefined ? "" : `event ${i}: `}${reason}`);

/** Parses the log's JSON text. Throws MeasureError "log/malformed" or "log/register". */
export async function parseDstackLog(text: string): Promise<DstackEvent[]> {
  if (text.length > MAX_TEXT) throw malformed("larger than 16 MiB");
  let rows: unknown;
  try {
    rows = JSON.parse(text);
  } catch {
    throw malformed("no JSON");
  }
  if (!Array.isArray(rows) || rows.length > MAX_EVENTS)
    throw malformed(`no array of at most ${MAX_EVENTS} events`);
  return Promise.all(rows.map((row, i) => parseRow(row, i)));
}

async function parseRow(row: unknown, i: number): Promise<DstackEvent> {
  if (typeof row !== "object" || row === null) throw malformed("no object", i);
  const { imr, event_type, digest, event, event_payload, version = 1 } = row as Record<string, unknown>;
  if (typeof event !== "string") throw malformed("no event name", i);
  if (typeof event_type !== "number" || !Number.isInteger(event_type)) throw malformed("no event type", i);
  const register = registerNames[(typeof imr === "number" ? imr : Number.NaN) + 1];
  if (register === undefined || register === "mrtd") {
    throw new MeasureError("log/register", `dstack log: event ${i}: there is no register ${String(imr)}`);
  }
  const data = hexField(event_payload, i);
  const logged = hexField(digest, i);
  if (event_type !== RUNTIME_EVENT_TYPE) {
    if (logged.length !== REGISTER_SIZE) throw malformed(`a digest of ${logged.length} bytes`, i);
    return { register, type: event_type, digest: logged, data, name: event };
  }
  if (version !== 1 && version !== 2) throw malformed(`version ${String(version)}`, i);
  // Version 1 joins name and payload with a colon: with one in the name, the same digest has several readings.
  if (version === 1 && event.includes(":")) throw malformed("a name with a colon", i);
  const computed = await (version === 1 ? runtimeEventDigest : runtimeEventDigestV2)(event, data);
  if (logged.length > 0 && !equal(logged, computed))
    throw malformed("its digest is not that of name and payload", i);
  return { register, type: event_type, digest: computed, data, name: event };
}

function hexField(value: unknown, i: number): Uint8Array {
  try {
    if (typeof value === "string") return fromHex(value);
  } catch {
    // falls through to the one error
  }
  throw malformed("a field is not hexadecimal", i);
}
