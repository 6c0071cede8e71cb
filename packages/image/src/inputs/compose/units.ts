// SPDX-License-Identifier: Apache-2.0
/** Durations and sizes as Compose writes them (11-extension.md, "Specifying durations" and "Specifying byte values"). */

const durationUnits: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** "1m30s", "500ms", "1.5s" in milliseconds, rounded up; undefined when it is not a duration. */
export function parseDuration(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^(?:\d{1,9}(?:\.\d{1,6})?(?:us|ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(us|ms|s|m|h)/g)) {
    total += Number(number) * durationUnits[unit!]!;
  }
  return total <= 2 ** 40 ? Math.ceil(total) : undefined;
}

/** "512m", "1gb", "300K", "1.5g", "4096" in bytes, units being powers of 1024; undefined when it is not a size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?(b|k|m|g|t)?(?:i?b)?$/i.exec(text);
  if (match === null) return undefined;
  const size = Number(match[1]) * 1024 ** "bkmgt".indexOf((match[2] ?? "b").toLowerCase());
  return size <= 2 ** 50 ? Math.floor(size) : undefined;
}
