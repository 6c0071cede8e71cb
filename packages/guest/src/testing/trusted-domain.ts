// SPDX-License-Identifier: Apache-2.0
/** What a trusted domain's hardware and firmware say, as far as an API that passes it on looks at it. */

import { eventLog } from "@caisson/measure/testing/synthetic";
import { buildEvidence } from "@caisson/verify/testing/evidence";

/** A version 4 quote of a simulated platform, with its chain in PEM as real ones have it; report data at 568. */
export function quoteOver(reportData: Uint8Array): Uint8Array {
  const padded = Buffer.concat([reportData, Buffer.alloc(64 - reportData.length)]);
  return buildEvidence({
    format: "td10-v4",
    td: { mrTd: "ee".repeat(48), reportData: padded.toString("hex") },
  }).quote;
}

/** A CCEL of one event each in RTMR0 to RTMR2, whose digests are 48 bytes of 1, 2 and 3. */
export const bootLog = (): Uint8Array =>
  eventLog(
    [[0x0c, 48]],
    [1, 2, 3].map((index) => ({
      index,
      type: 6,
      digests: [[0x0c, new Uint8Array(48).fill(index)]] as const,
      data: new Uint8Array(),
    })),
  );
