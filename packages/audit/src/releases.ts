// SPDX-License-Identifier: Apache-2.0
/** Kernel releases and what they can do. */

/** Numeric order of "6.9" and "7.3.4-rc1"; negative when `a` is older. */
export function compareReleases(a: string, b: string): number {
  const parts = (release: string) => release.split(/[-+~]/)[0]!.split(".").map(Number);
  const [x, y] = [parts(a), parts(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
