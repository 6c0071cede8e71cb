// SPDX-License-Identifier: Apache-2.0
/**
 * Measured-boot event logs: the crypto-agile TCG2 format (PC Client Platform Firmware Profile 1.06, section 10), which
 * a TPM's log and a confidential guest's CCEL (UEFI 2.11, section 38.4) share. Only the meaning of the index differs:
 * a PCR there, a measurement register (0 MRTD, n RTMR n−1) here.
 *
 * Invariants: sizes and counts come from bounded fields and never from trust; every digest's algorithm was declared in
 * the header; a log that ends inside a record is refused; events are views into the given bytes, nothing is copied.
 */

import { equal } from "@caisson/vocabulary/bytes";
import { digest as hash } from "#sha";
import { Bytes } from "../bytes.ts";
import { MeasureError } from "../errors.ts";
import * as ev from "./event-types.ts";
import { type RegisterName, registerNames } from "./rtmr.ts";

/** TCG algorithm registry: the banks that logs carry. */
const algorithmNames: Record<number, string> = {
  0x4: "sha1",
  0xb: "sha256",
  0xc: "sha384",
  0xd: "sha512",
  0x12: "sm3",
};
export const algorithmSizes: Readonly<Record<string, number>> = {
  sha1: 20,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  sm3: 32,
};
const MAX_ALGORITHMS = 8;
const SPEC_ID = "Spec ID Event03\0";

/** One record. `index` is the raw register field (see `Indexing`), `digests` is keyed by bank name. */
export interface LogEvent {
  offset: number;
  index: number;
  type: number;
  digests: ReadonlyMap<string, Uint8Array>;
  data: Uint8Array;
}

/** A parsed log. `algorithms` are the declared banks; `end` is the offset behind the last record. */
export interface EventLog {
  algorithms: readonly string[];
  events: readonly LogEvent[];
  end: number;
}

/** What a record's index means: a TPM's PCR, or a confidential guest's measurement register. */
export type Indexing = "pcr" | "cc";

/** An event as it extends one of the five registers. `digest` is its SHA-384 (48 bytes). */
export interface MeasuredEvent {
  register: RegisterName;
  /** Set where the log was a TPM's. */
  pcr?: number;
  type: number;
  digest: Uint8Array;
  data: Uint8Array;
}

/**
 * Parses a binary log: TCG2 as in `/sys/kernel/security/tpm0/binary_bios_measurements`, CCEL as in
 * `/sys/firmware/acpi/tables/data/CCEL`. Ends at the buffer's end, at an index of 0xFFFFFFFF (erased memory, edk2) or
 * at zero padding (td-shim). Throws MeasureError "log/truncated", "log/malformed" or "log/algorithm" with the offset.
 */
export function parseEventLog(input: Uint8Array): EventLog {
  const log = new Bytes(input, "log");
  const { banks, end: start } = parseHeader(log);
  const events: LogEvent[] = [];
  let at = start;
  while (at < log.length && !isPadding(log, at)) {
    const { event, end } = parseEvent(log, at, banks);
    events.push(event);
    at = end;
  }
  return { algorithms: [...banks.values()].map(({ name }) => name), events, end: at };
}

type Banks = ReadonlyMap<number, { name: string; size: number }>;

/** The first record has the SHA-1 layout (TCG_PCClientPCREvent) and holds a TCG_EfiSpecIdEventStruct. */
function parseHeader(log: Bytes): { banks: Banks; end: number } {
  const size = log.u32(28);
  const body = 32;
  const signature = String.fromCharCode(...log.slice(body, 16));
  if (log.u32(4) !== ev.EV_NO_ACTION || signature !== SPEC_ID) {
    throw new MeasureError("log/malformed", "the log does not begin with a Spec ID Event03 record", {
      offset: 0,
    });
  }
  const count = log.u32(body + 24);
  if (count === 0 || count > MAX_ALGORITHMS) {
    throw new MeasureError("log/malformed", `${count} algorithms declared; 1 to ${MAX_ALGORITHMS} possible`, {
      offset: body + 24,
    });
  }
  const banks = new Map<number, { name: string; size: number }>();
  for (let i = 0; i < count; i++) {
    const offset = body + 28 + 4 * i;
    const id = log.u16(offset);
    const digestSize = log.u16(offset + 2);
    const name = algorithmNames[id] ?? `alg-${id.toString(16)}`;
    if (
      digestSize === 0 ||
      digestSize > 64 ||
      (algorithmSizes[name] ?? digestSize) !== digestSize ||
      banks.has(id)
    ) {
      throw new MeasureError(
        "log/algorithm",
        `algorithm ${name} declared twice or with ${digestSize} bytes`,
        {
          offset,
        },
      );
    }
    banks.set(id, { name, size: digestSize });
  }
  const vendorSize = log.u8(body + 28 + 4 * count);
  if (28 + 4 * count + 1 + vendorSize !== size) {
    throw new MeasureError("log/malformed", "the Spec ID record's size disagrees with its content", {
      offset: 28,
    });
  }
  log.slice(body, size);
  return { banks, end: body + size };
}

/** Erased memory begins with an index of all ones; td-shim pads with zeros, which no record can begin with. */
function isPadding(log: Bytes, at: number): boolean {
  if (log.length - at < 4) return log.data.subarray(at).every((byte) => byte === 0 || byte === 0xff);
  if (log.u32(at) === 0xffffffff) return true;
  return log.data.subarray(at, at + 12).every((byte) => byte === 0);
}

function parseEvent(log: Bytes, start: number, banks: Banks): { event: LogEvent; end: number } {
  const index = log.u32(start);
  const type = log.u32(start + 4);
  const count = log.u32(start + 8);
  if (count > banks.size) {
    throw new MeasureError(
      "log/malformed",
      `${count} digests, but the log declares ${banks.size} algorithms`,
      {
        offset: start + 8,
      },
    );
  }
  const digests = new Map<string, Uint8Array>();
  let at = start + 12;
  for (let i = 0; i < count; i++) {
    const id = log.u16(at);
    const bank = banks.get(id);
    if (bank === undefined || digests.has(bank.name)) {
      throw new MeasureError(
        "log/algorithm",
        `digest algorithm 0x${id.toString(16)} undeclared or repeated`,
        {
          offset: at,
        },
      );
    }
    digests.set(bank.name, log.slice(at + 2, bank.size));
    at += 2 + bank.size;
  }
  const size = log.u32(at);
  const data = log.slice(at + 4, size);
  return { event: { offset: start, index, type, digests, data }, end: at + 4 + size };
}

/** edk2's mapping of PCRs to registers (TdTcg2Dxe, MapPcrToMrIndex): 0 MRTD; 1, 7 RTMR0; 2–6 RTMR1; 8–15 RTMR2. */
export function pcrRegister(pcr: number): RegisterName | undefined {
  if (pcr === 0) return "mrtd";
  if (pcr === 1 || pcr === 7) return "rtmr0";
  if (pcr >= 2 && pcr <= 6) return "rtmr1";
  if (pcr >= 8 && pcr <= 15) return "rtmr2";
  return undefined;
}

/**
 * The events that extend registers, in log order. EV_NO_ACTION records extend nothing and are left out.
 * `indexing` "cc": index n is RTMR n−1; index 0 (MRTD cannot be extended) and above 4 are refused.
 * `indexing` "pcr": edk2's mapping; PCRs above 15 belong to the running system and are left out.
 * Throws MeasureError "log/no-sha384" for a record without that digest, "log/register" for an impossible index.
 */
export function measuredEvents(log: EventLog, indexing: Indexing): MeasuredEvent[] {
  const events: MeasuredEvent[] = [];
  for (const event of log.events) {
    if (event.type === ev.EV_NO_ACTION) continue;
    const register = indexing === "pcr" ? pcrRegister(event.index) : registerNames[event.index];
    if (indexing === "cc" && (register === undefined || register === "mrtd")) {
      throw new MeasureError("log/register", `measurement register ${event.index} cannot be extended`, {
        offset: event.offset,
      });
    }
    if (register === undefined) continue;
    const digest = event.digests.get("sha384");
    if (digest === undefined) {
      throw new MeasureError("log/no-sha384", "a record has no SHA-384 digest", {
        offset: event.offset,
        facts: [["banks", [...event.digests.keys()].join(", ")]],
      });
    }
    events.push({
      register,
      ...(indexing === "pcr" && { pcr: event.index }),
      type: event.type,
      digest,
      data: event.data,
    });
  }
  return events;
}

/**
 * Whether an event's payload is what its digest measures:
 * - "whole": the digest is that of the payload;
 * - "variable-data": it is that of the variable's data inside the payload; the name is not bound (edk2, boot entries);
 * - "description": the digest measures something else (a file, a table), and whoever holds the log can rewrite the
 *   payload without changing a register;
 * - "absent": the log carries no payload (some are handed out stripped);
 * - "mismatch": the type's rule says "whole", and the digest is of something else: the payload was altered.
 */
export type PayloadBinding = "whole" | "variable-data" | "description" | "absent" | "mismatch";

const payloadIsMeasured = new Set<number>([
  ev.EV_SEPARATOR,
  ev.EV_ACTION,
  ev.EV_EFI_ACTION,
  ev.EV_S_CRTM_VERSION,
  ev.EV_EFI_VARIABLE_DRIVER_CONFIG,
  ev.EV_EFI_VARIABLE_AUTHORITY,
  ev.EV_EFI_VARIABLE_BOOT2,
  ev.EV_EFI_GPT_EVENT,
]);

/** How the payload of one event relates to its SHA-384 digest. */
export async function payloadBinding(event: {
  type: number;
  digest: Uint8Array;
  data: Uint8Array;
}): Promise<PayloadBinding> {
  if (equal(await hash("sha384", event.data), event.digest)) return "whole";
  if (event.data.length === 0) return "absent";
  if (event.type === ev.EV_EFI_VARIABLE_BOOT) {
    const variable = parseVariable(event.data);
    if (variable !== undefined && equal(await hash("sha384", variable.data), event.digest))
      return "variable-data";
    return "mismatch";
  }
  return payloadIsMeasured.has(event.type) ? "mismatch" : "description";
}

/** A UEFI_VARIABLE_DATA payload, or undefined where the bytes are not exactly one. */
export function parseVariable(
  payload: Uint8Array,
): { guid: string; name: string; data: Uint8Array } | undefined {
  if (payload.length < 32) return undefined;
  const bytes = new Bytes(payload, "log");
  const nameBytes = 2 * bytes.u64(16);
  const dataBytes = bytes.u64(24);
  if (32 + nameBytes + dataBytes !== payload.length) return undefined;
  const name = new TextDecoder("utf-16le").decode(bytes.slice(32, nameBytes));
  return { guid: bytes.guid(0), name, data: bytes.slice(32 + nameBytes, dataBytes) };
}
