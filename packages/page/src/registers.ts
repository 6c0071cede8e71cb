// SPDX-License-Identifier: Apache-2.0
/** Each register of a TD, the events that make it up, and the file behind each event. */
import { eventTypeName, measuredEvents, parseEventLog, replay, runtimeEventDigest } from "@caisson/measure";
import { guessIndexing } from "@caisson/measure/tpm-log";
import { type AnyEvidence, type Evidence, isQuote, parseQuote } from "@caisson/verify";
import { fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import type { PredictedEvent } from "./files.ts";

export interface RegisterEvent {
  name: string;
  digest: string;
  detail: string;
  /** The file that decides the event, where a prediction says so. */
  file: string | undefined;
}

export interface RegisterView {
  name: string;
  value: string;
  /** Whether the events replay to the value; undefined where there is no log. */
  replays: boolean | undefined;
  events: RegisterEvent[];
}

const isText = /^[\x20-\x7e]{1,200}$/;
/** Payloads of events in words where they are words. */
function detailOf(data: Uint8Array): string {
  const text = fromUtf8(data).replace(/\0+$/, "");
  return isText.test(text)
    ? text
    : data.length === 0
      ? ""
      : `${toHex(data.subarray(0, 32))}${data.length > 32 ? "…" : ""}`;
}

/** Undefined for what has no registers: an enclave, a SEV-SNP guest. Throws what reading the quote or its log throws. */
export async function registersOf(
  evidence: AnyEvidence,
  predicted: readonly PredictedEvent[],
): Promise<RegisterView[] | undefined> {
  if (!isQuote(evidence)) return undefined;
  const { body } = parseQuote(evidence.quote);
  if (body.tee !== "tdx") return undefined;
  const values = body.report.rtmrs.map(toHex);
  const logged = await bootEvents(evidence, predicted);
  const runtime = await Promise.all(
    (evidence.runtimeEvents ?? []).map(async ({ name, payload }) => ({
      register: 3,
      name,
      digest: toHex(await runtimeEventDigest(name, payload)),
      detail: detailOf(payload),
      file: undefined,
    })),
  );
  const all = [...logged.events, ...runtime];
  const replayed = await replay(
    all.map(({ register, digest }) => ({
      register: `rtmr${register}` as "rtmr0",
      digest: Uint8Array.fromHex(digest),
    })),
  );
  const views = values.map((value, i): RegisterView => {
    const events = all.filter(({ register }) => register === i);
    const known = i === 3 ? evidence.runtimeEvents !== undefined : logged.there;
    return {
      name: `RTMR${i}`,
      value,
      replays: known ? toHex(replayed[`rtmr${i}` as "rtmr0"]) === value : undefined,
      events: events.map(({ register: _, ...event }) => event),
    };
  });
  return [{ name: "MRTD", value: toHex(body.report.mrTd), replays: undefined, events: [] }, ...views];
}

async function bootEvents({ bootLog }: Evidence, predicted: readonly PredictedEvent[]) {
  const fileOf = (register: number, digest: string) => {
    const found = predicted.find((event) => event.register === `rtmr${register}` && event.digest === digest);
    return found && { name: found.what, file: found.file ?? found.source };
  };
  if (bootLog === undefined) return { there: false, events: [] };
  if (bootLog.format === "events") {
    return {
      there: true,
      events: bootLog.events.map(({ register, digest }) => ({
        register: register as number,
        name: fileOf(register, toHex(digest))?.name ?? "measured",
        digest: toHex(digest),
        detail: "",
        file: fileOf(register, toHex(digest))?.file,
      })),
    };
  }
  const log = parseEventLog(bootLog.bytes);
  const events = measuredEvents(log, guessIndexing(log) ?? "cc").flatMap(
    ({ register, type, digest, data }) => {
      const number = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].indexOf(register);
      if (number < 0) return [];
      const known = fileOf(number, toHex(digest));
      return [
        {
          register: number,
          name: known?.name ?? eventTypeName(type),
          digest: toHex(digest),
          detail: detailOf(data),
          file: known?.file,
        },
      ];
    },
  );
  return { there: true, events };
}
