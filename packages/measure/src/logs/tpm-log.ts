// SPDX-License-Identifier: Apache-2.0
/** A TPM's log as such: its PCR values, and how it is told from a confidential guest's. */
import { digest as hash } from "#sha";
import { MeasureError } from "../errors.ts";
import { algorithmSizes, type EventLog, type Indexing, type LogEvent } from "./event-log.ts";
import * as ev from "./event-types.ts";

/**
 * Which meaning the indices have, from the log alone; undefined where nothing in it tells. A TPM's log uses indices above
 * 4, which are not measurement registers; extends index 0, which would be MRTD; names the TPM's start-up locality; or
 * declares other banks than the one that a TD has. Only a hint for display; a verifier knows its platform.
 */
export function guessIndexing({ algorithms, events }: EventLog): Indexing | undefined {
  const tpm =
    algorithms.some((name) => name !== "sha384") ||
    events.some(
      (event) =>
        event.index > 4 ||
        (event.index === 0 && event.type !== ev.EV_NO_ACTION) ||
        startupLocality(event) !== undefined,
    );
  if (tpm) return "pcr";
  return events.some(({ type }) => type !== ev.EV_NO_ACTION) ? "cc" : undefined;
}

/**
 * Replays a TPM's log to PCR values of one bank. PCR 0 starts at the locality that a StartupLocality record names
 * (PC Client Profile 10.4.5.3). Throws MeasureError "log/algorithm" if the bank is unknown or missing in a record.
 */
export async function replayPcrs(log: EventLog, bank = "sha384"): Promise<Map<number, Uint8Array>> {
  const size = algorithmSizes[bank];
  if (size === undefined || bank === "sm3") {
    throw new MeasureError("log/algorithm", `bank '${bank}' cannot be replayed`, { kind: "unsupported" });
  }
  const pcrs = new Map<number, Uint8Array>();
  for (const event of log.events) {
    if (event.type === ev.EV_NO_ACTION) {
      const locality = startupLocality(event);
      if (locality !== undefined && !pcrs.has(0)) {
        const initial = new Uint8Array(size);
        initial[size - 1] = locality;
        pcrs.set(0, initial);
      }
      continue;
    }
    const digest = event.digests.get(bank);
    if (digest === undefined) {
      throw new MeasureError("log/algorithm", `a record has no ${bank} digest`, { offset: event.offset });
    }
    const old = pcrs.get(event.index) ?? new Uint8Array(size);
    pcrs.set(event.index, await hash(bank as "sha1", old, digest));
  }
  return pcrs;
}

function startupLocality(event: LogEvent): number | undefined {
  const text = "StartupLocality\0";
  if (event.data.length !== text.length + 1) return undefined;
  return String.fromCharCode(...event.data.subarray(0, text.length)) === text
    ? event.data[text.length]
    : undefined;
}
