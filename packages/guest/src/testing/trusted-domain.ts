// SPDX-License-Identifier: Apache-2.0
/** What a trusted domain's hardware and firmware say, as far as an API that passes it on looks at it. */
import { eventLog } from "@caisson/measure/testing/synthetic";

/** A version 4 quote in all that is read of it: the report data, 64 bytes at 568. */
export function quoteOver(reportData: Uint8Array): Buffer {
  const quote = Buffer.alloc(700, 0xee);
  quote.writeUInt16LE(4, 0);
  quote.set(reportData, 568);
  return quote;
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
