// SPDX-License-Identifier: Apache-2.0
/** Opens what a machine encrypted of its services' lines, and keeps count of what is not as it was sent. */
import type { ConsoleEvent } from "@caisson/protocol/console";
import type { SealingKey } from "@caisson/protocol/hpke";
import type { LogLine, LogPart } from "@caisson/protocol/sealed-log";
import { openLogPart } from "@caisson/protocol/sealed-log-reader";

export interface Gaps {
  /** Parts between others that are not there. */
  missing: number;
  /** Parts for other keys, or of another run than the first. */
  foreign: number;
  altered: number;
  /** The last part is there. */
  ended: boolean;
}

/** Lines in the order in which they were sent; `gaps` is filled while they are read. */
export async function* openLog(
  events: AsyncIterable<ConsoleEvent>,
  key: SealingKey,
  gaps: Gaps,
): AsyncGenerator<LogLine> {
  let run: string | undefined;
  let next = 0;
  for await (const event of events) {
    if (event.kind !== "log") continue;
    let part: LogPart | undefined;
    try {
      part = openLogPart(key, event.data);
    } catch {
      gaps.altered++;
      continue;
    }
    // What was opened before is not opened again, nor is what somebody wrote who does not know the run.
    if (part === undefined || (run ??= part.run) !== part.run || part.number < next) {
      gaps.foreign++;
      continue;
    }
    gaps.missing += part.number - next;
    next = part.number + 1;
    gaps.ended ||= part.last;
    yield* part.lines;
  }
}
