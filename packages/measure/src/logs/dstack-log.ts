// SPDX-License-Identifier: Apache-2.0
/**
 * dstack's JSON event log: boot events of RTMR0–2 by digest, runtime events of RTMR3 by name and payload.
 *
 * Invariant: a runtime event's digest is always recomputed from name and payload (logs are handed out without, and a
 * logged one proves nothing); one that is logged and disagrees is refused.
 */
import { equal, fromHex } from "@caisson/vocabulary/bytes";
import { MeasureError } from "../errors.ts";
import type { MeasuredEvent } from "./event-log.ts";
import { REGISTER_SIZE, type RegisterName, registerNames } from "./rtmr.ts";
import { RUNTIME_EVENT_TYPE, runtimeEventDigest, runtimeEventDigestV2 } from "./runtime-events.ts";

/** A record as it is written. `name` is a runtime event's, or dstack's label of a boot event. */
export interface DstackRecord {
  register: Exclude<RegisterName, "mrtd">;
  type: number;
  name: string;
  data: Uint8Array;
  /** The digest that the log claims; a runtime event may have none (empty). */
  logged: Uint8Array;
  /** How a runtime event is encoded for its digest; undefined for a boot event, whose digest is the logged one. */
  encoding?: 1 | 2;
}

/** An event of this log, with the digest that counts. */
export interface DstackEvent extends MeasuredEvent {
  name: string;
}

const MAX_EVENTS = 4096;
const MAX_TEXT = 16 << 20;

const malformed = (reason: string, i?: number): MeasureError =>
  new MeasureError("log/malformed", `dstack log: ${i === undefined ? "" : `event ${i}: `}${reason}`);

/** Reads the log's JSON text without judging digests. Throws MeasureError "log/malformed" or "log/register". */
export function readDstackLog(text: string): DstackRecord[] {
  if (text.length > MAX_TEXT) throw malformed("larger than 16 MiB");
  let rows: unknown;
  try {
    rows = JSON.parse(text);
  } catch {
    throw malformed("not JSON");
  }
  if (!Array.isArray(rows) || rows.length > MAX_EVENTS)
    throw malformed(`not an array of at most ${MAX_EVENTS} events`);
  return rows.map(readRecord);
}

/** The same with the digests that count. Throws as `readDstackLog` does, and for a digest that disagrees. */
export async function parseDstackLog(text: string): Promise<DstackEvent[]> {
  return Promise.all(
    readDstackLog(text).map(async (record, i) => {
      const digest = await dstackDigest(record);
      if (digest === undefined) throw malformed("its digest is not that of name and payload", i);
      const { register, type, data, name } = record;
      return { register, type, digest, data, name };
    }),
  );
}

/** The digest that a record extends its register with; undefined where the log claims another one. */
export async function dstackDigest({
  name,
  data,
  logged,
  encoding,
}: Pick<DstackRecord, "name" | "data" | "logged" | "encoding">): Promise<Uint8Array | undefined> {
  if (encoding === undefined) return logged;
  const computed = await (encoding === 1 ? runtimeEventDigest : runtimeEventDigestV2)(name, data);
  return logged.length === 0 || equal(logged, computed) ? computed : undefined;
}

function readRecord(row: unknown, i: number): DstackRecord {
  if (typeof row !== "object" || row === null) throw malformed("not an object", i);
  const { imr, event_type, digest, event, event_payload, version = 1 } = row as Record<string, unknown>;
  if (typeof event !== "string") throw malformed("no event name", i);
  if (typeof event_type !== "number" || !Number.isInteger(event_type)) throw malformed("no event type", i);
  const register = registerNames[(typeof imr === "number" ? imr : Number.NaN) + 1];
  if (register === undefined || register === "mrtd") {
    throw new MeasureError("log/register", `dstack log: event ${i}: there is no register ${String(imr)}`);
  }
  const record = {
    register,
    type: event_type,
    name: event,
    data: hexField(event_payload, i),
    logged: hexField(digest, i),
  };
  if (event_type !== RUNTIME_EVENT_TYPE) {
    if (record.logged.length !== REGISTER_SIZE)
      throw malformed(`a digest of ${record.logged.length} bytes`, i);
    return record;
  }
  if (register !== "rtmr3") {
    throw new MeasureError("log/register", `dstack log: event ${i}: a runtime event in ${register}`);
  }
  if (version !== 1 && version !== 2) throw malformed(`version ${String(version)}`, i);
  // Version 1 joins name and payload with a colon: with one in the name, the same digest has several readings.
  if (version === 1 && event.includes(":")) throw malformed("a name with a colon", i);
  return { ...record, encoding: version };
}

function hexField(value: unknown, i: number): Uint8Array {
  const bytes = typeof value === "string" ? fromHex(value) : undefined;
  if (bytes === undefined) throw malformed("a field is not hexadecimal", i);
  return bytes;
}
