// SPDX-License-Identifier: Apache-2.0
/**
 * The measured-boot log: whether it is the log of this TD, and what it then proves of RTMR0, event by event.
 *
 * A log counts only as far as it replays to the quote's registers. Once it does, the register binds each digest and its
 * place, so that RTMR0 can be compared by event, with one event left to the host: the SMBIOS tables, which name the
 * host's processor. Payloads and types are the log's own word and are not read.
 */
import { fold, MeasureError, measuredEvents, parseEventLog } from "@caisson/measure";
import { equal, toHex } from "@caisson/vocabulary/bytes";
import type { Platform } from "@caisson/vocabulary/platforms";
import type { BootLog, Evidence } from "../evidence/evidence.ts";
import type { TdReport } from "../intel/quote.ts";
import { platformRows } from "../platform.ts";
import type { Answers } from "../report.ts";
import type { Policy } from "./policy.ts";
import { HOST_SMBIOS } from "./reference.ts";

const registers = [0, 1, 2] as const;

/** The digests that extend RTMR0 to RTMR2, in order. Throws MeasureError for a log that is none. */
function bootDigests(log: BootLog, platform: Platform): Uint8Array[][] {
  if (log.format === "events") {
    return registers.map((register) =>
      log.events.filter((event) => event.register === register).map(({ digest }) => digest),
    );
  }
  const events = measuredEvents(parseEventLog(log.bytes), platformRows[platform].logIndexing);
  return registers.map((register) =>
    events.filter((event) => event.register === `rtmr${register}`).map(({ digest }) => digest),
  );
}

/**
 * Whether the measured-boot log, if there is one, is the log of this TD. Returns the digests that make up RTMR0 (hex, in
 * order), or undefined where no log proves them.
 */
export async function checkBootLog(
  { bootLog, platform }: Evidence,
  td: TdReport,
  policy: Policy,
  answers: Answers,
): Promise<readonly string[] | undefined> {
  if (bootLog === undefined) {
    if (policy.events?.bootLog === "required") {
      answers.fail("events/boot-log", { expected: "a boot log", actual: "none" });
    } else
      answers.notChecked("events/boot-log", "the evidence carries no boot log; registers are compared whole");
    return undefined;
  }
  let digests: Uint8Array[][];
  let replayed: Uint8Array[];
  try {
    digests = bootDigests(bootLog, platform);
    replayed = await Promise.all(digests.map((list) => fold(list)));
  } catch (error) {
    if (!(error instanceof MeasureError)) throw error;
    answers.fail("events/boot-log", { reason: `${error.message} [${error.code}]` });
    return undefined;
  }
  const wrong = replayed.flatMap((value, i) => (equal(value, td.rtmrs[i]!) ? [] : [i]));
  if (wrong.length === 0) answers.pass("events/boot-log", { actual: "replays to RTMR0, RTMR1 and RTMR2" });
  else {
    answers.fail("events/boot-replay", {
      expected: wrong.map((i) => `RTMR${i} ${toHex(td.rtmrs[i]!)} (quote)`).join(", "),
      actual: wrong.map((i) => `RTMR${i} ${toHex(replayed[i]!)} (log)`).join(", "),
    });
  }
  return wrong.includes(0) ? undefined : digests[0]!.map(toHex);
}

/** How RTMR0's events compare with a reference's: the first difference, if any, and what was left to the host. */
export interface EventComparison {
  /** `expected` and `actual` of the first event that differs, for people. */
  difference?: { expected: string; actual: string };
  /** Digests that the reference leaves to the host, as they were found. */
  host: readonly string[];
}

/** Compares RTMR0's digests with a reference's, one by one; an event of the host has any digest, but its place. */
export function compareEvents(found: readonly string[], wanted: readonly string[]): EventComparison {
  const at = Array.from({ length: Math.max(found.length, wanted.length) }, (_, i) => i).find(
    (i) => found[i] === undefined || (wanted[i] !== HOST_SMBIOS && wanted[i] !== found[i]),
  );
  const host = wanted.flatMap((event, i) =>
    event === HOST_SMBIOS && found[i] !== undefined ? [found[i]] : [],
  );
  if (at === undefined) return { host };
  const shown = (list: readonly string[]) => `event ${at + 1} of ${list.length}: ${list[at] ?? "none"}`;
  return { difference: { expected: shown(wanted), actual: shown(found) }, host };
}
