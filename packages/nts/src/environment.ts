// SPDX-License-Identifier: Apache-2.0
/** What the client takes from the machine, as arguments, so that tests decide it. */
import { randomFillSync } from "node:crypto";
import { lookup } from "node:dns";
import type { LookupFunction } from "node:net";

export interface Environment {
  /** Milliseconds from a clock that nobody steps. Intervals are never measured with the wall clock. */
  monotonic(): number;
  /** Unpredictable bytes. */
  random(length: number): Uint8Array;
  /** Name to addresses. Its answers are not trusted: names are authenticated by TLS. */
  lookup: LookupFunction;
}

export const systemEnvironment: Environment = {
  monotonic: () => performance.now(),
  random: (length) => randomFillSync(new Uint8Array(length)),
  lookup: ((...asked) => lookup(...asked)) as LookupFunction,
};
