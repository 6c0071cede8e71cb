// SPDX-License-Identifier: Apache-2.0
/** When an exchange with the KMS is worth another try. */
import { setTimeout } from "node:timers/promises";
import { KeyError } from "./key-client.ts";

/** Denials of a KMS that may answer otherwise a moment later: its database came back, its policies were exchanged. */
const passing: ReadonlySet<string> = new Set([
  "log/unavailable",
  "policy/changed",
  "nonce/expired",
  "nonce/busy",
  "nonce/used",
]);

/** Before the next exchange, ms: a replica that died, or a database that is taken over, is back in that time. */
const pausesMs = [1000, 2000, 4000, 8000];

/**
 * An exchange, and another one (new nonce, new quote) where the KMS could not be reached, would not answer now or said
 * what passes. Throws what the last one threw.
 */
export async function withPatience<T>(
  exchange: () => Promise<T>,
  pause: (ms: number) => Promise<unknown> = setTimeout,
): Promise<T> {
  for (const ms of pausesMs) {
    try {
      return await exchange();
    } catch (error) {
      if (!(error instanceof KeyError) || !mayPass(error)) throw error;
    }
    await pause(ms);
  }
  return exchange();
}

const mayPass = ({ code, denial = "" }: KeyError): boolean =>
  code === "keys/unreachable" || code === "keys/refused" || (code === "keys/denied" && passing.has(denial));
