// SPDX-License-Identifier: Apache-2.0
/**
 * What this machine's clock said at `instant` of performance.now(), in milliseconds: an interval, as the two clocks are
 * read one after the other, on a busy machine long after, and Date.now() is cut to whole milliseconds.
 */
export function clockAt(instant: number): { earliest: number; latest: number } {
  const before = performance.now();
  const now = Date.now();
  const after = performance.now();
  return { earliest: now - (after - instant), latest: now + 1 - (before - instant) };
}
