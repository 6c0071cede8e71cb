// SPDX-License-Identifier: Apache-2.0
/** "Did you mean …?": the known name that is nearest to a mistyped one. */

/** How many letters have to be inserted, left out, changed or swapped with their neighbour (Damerau, 1964). */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, rows[i - 1]![j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      }
      rows[i]![j] = least;
    }
  }
  return rows[a.length]![b.length]!;
}

/** The one of `names` that `word` was probably meant to be; undefined when none is near. */
export function suggest(word: string, names: readonly string[]): string | undefined {
  const near = names
    .map((name) => [distance(word.toLowerCase().slice(0, 40), name), name] as const)
    .filter(([steps, name]) => steps <= Math.max(1, Math.floor(name.length / 3)))
    .sort(([a], [b]) => a - b);
  return near[0]?.[1];
}
