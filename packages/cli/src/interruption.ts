// SPDX-License-Identifier: Apache-2.0
/** Ctrl-C, once and twice. */
import { exitCodes } from "./exit-codes.ts";
import { Interrupted } from "./failure.ts";

/**
 * Aborted by the first Ctrl-C or SIGTERM, with the error that names it; `fix` is what to do then. The second ends this
 * process at once, by itself: a process that a signal ends leaves its machines behind (`@caisson/host/child`).
 */
export function interruption(fix?: string): AbortSignal {
  const interrupted = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    if (interrupted.signal.aborted) process.exit(exitCodes.interrupted);
    interrupted.abort(new Interrupted(signal, fix));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  return interrupted.signal;
}
