// SPDX-License-Identifier: Apache-2.0
/** What a process's exit code says. */
import type { Report } from "@caisson/verify";
import type { FailureKind } from "@caisson/vocabulary/failure";

export const exitCodes: Readonly<Record<FailureKind, number>> = {
  rejected: 10,
  unsupported: 20,
  input: 30,
  usage: 2,
  // EX_TEMPFAIL of sysexits.h.
  unavailable: 75,
  // 128 and SIGINT, as shells count.
  interrupted: 130,
  internal: 1,
};

/** Of a report. */
export const verdictCodes: Readonly<Record<Report["verdict"], number>> = {
  accepted: 0,
  rejected: exitCodes.rejected,
  undetermined: exitCodes.unsupported,
};

/** 128 and SIGPIPE, as shells count. */
export const readerGone = 141;

/** For documents and the manual page, in the order of what a caller asks first. */
export const exitStatuses: readonly (readonly [code: number, meaning: string])[] = [
  [0, "done; accepted; every required control holds"],
  [exitCodes.rejected, "rejected: evidence, an image, a log or a comparison is not what it must be; an application failed"],
  [exitCodes.unsupported, "not supported here: the machine lacks something, the form is not judged, nobody can tell"],
  [exitCodes.input, "malformed input: a file or an answer is not what it has to be"],
  [exitCodes.usage, "wrong usage of the command line"],
  [exitCodes.unavailable, "not now: unreachable, busy, no room, a port that is taken; the same call may work later"],
  [exitCodes.interrupted, "interrupted by Ctrl-C or SIGTERM"],
  [readerGone, "whoever read the output went away"],
  [exitCodes.internal, "an internal error of Caisson"],
]; // biome-ignore format: rows
