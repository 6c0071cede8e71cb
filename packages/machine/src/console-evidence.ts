// SPDX-License-Identifier: Apache-2.0
/**
 * The evidence that a development machine prints for whoever started it, over a challenge of theirs. It is judged like
 * any other: that it came over the console makes it neither better nor worse.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Vm } from "@caisson/host/vm";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { VerifyError } from "@caisson/verify";
import { limits } from "@caisson/vocabulary/limits";
import type { FreshEvidence } from "./relying-party.ts";

const limitMs = 90_000;

type Part = Extract<ConsoleEvent, { kind: "evidence" }>;

/** The document in the parts so far; undefined while one is missing. Throws VerifyError `evidence/malformed`. */
export function joinParts(events: readonly ConsoleEvent[]): Uint8Array | undefined {
  let text = "";
  let next = 0;
  for (const event of events) {
    if (event.kind !== "evidence") continue;
    const { part, of, data } = event as Part;
    if (part !== next || typeof data !== "string" || text.length + data.length > 2 * limits.document) {
      throw new VerifyError("evidence/malformed", "the parts of the evidence on the console do not fit");
    }
    text += data;
    if (++next === of) return Buffer.from(text, "base64");
  }
  return undefined;
}

/** Waits for the evidence over `nonce`. Throws VerifyError `evidence/malformed` when the machine ends without it. */
export async function consoleEvidence(vm: Vm, nonce: Uint8Array): Promise<FreshEvidence> {
  const last = (event: ConsoleEvent): boolean => event.kind === "evidence" && event.part + 1 === event.of;
  await Promise.race([vm.event(last), sleep(limitMs, undefined, { ref: false })]);
  const bytes = joinParts(vm.events);
  if (bytes === undefined) {
    throw new VerifyError("evidence/malformed", "the machine printed no evidence on its console");
  }
  return { bytes, nonce };
}
