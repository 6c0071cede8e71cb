// SPDX-License-Identifier: Apache-2.0
/** Sets this machine's clock to a time that was agreed upon (`caisson time --set`). */
import { execFileSync } from "node:child_process";
import { HostError } from "@caisson/host/errors";

/**
 * Steps the clock to the middle of an agreed interval. `earliest` and `latest` are Unix milliseconds at the instant
 * `at` of the `monotonic` clock, which tells how long ago that was. Returns what was set, Unix milliseconds.
 */
export function setClock(
  { earliest, latest, at }: { earliest: number; latest: number; at: number },
  monotonic: () => number = () => performance.now(),
  set: (milliseconds: number) => void = setSystemClock,
): number {
  const time = (earliest + latest) / 2 + (monotonic() - at);
  set(time);
  return time;
}

/** How date(1) is told Unix milliseconds, to the microsecond. */
export const dateArgument = (milliseconds: number) => `@${(milliseconds / 1000).toFixed(6)}`;

/** Node cannot set the clock; coreutils can. Throws `host/unsupported` with what they say. */
function setSystemClock(milliseconds: number): void {
  try {
    execFileSync("date", ["--utc", `--set=${dateArgument(milliseconds)}`], { stdio: "pipe" });
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: Buffer };
    const cause = stderr?.toString().trim().split("\n")[0] || message;
    throw new HostError("host/unsupported", "this machine's clock was not set", {
      facts: [["cause", cause]],
      fix: "run it as root, on a machine that may set its own clock (CAP_SYS_TIME); containers may not",
    });
  }
}
