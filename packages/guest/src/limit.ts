// SPDX-License-Identifier: Apache-2.0
/**
 * The timer that every wait of PID 1 has. What is waited for may be the host's: a server, a quote, a disk. Giving up
 * does not stop the work itself, so whoever starts it also ends it where it can be ended.
 */

/** `work`, or the rejection with `late()` when it has not settled after `ms`. */
export async function withLimit<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const limit = Promise.withResolvers<never>();
  const timer = setTimeout(() => limit.reject(late()), ms);
  try {
    return await Promise.race([work, limit.promise]);
  } finally {
    clearTimeout(timer);
  }
}
