// SPDX-License-Identifier: Apache-2.0
/**
 * How far the heap of a service grows before all of it is marked. Left to itself V8 marks a heap of 20 MiB each time that
 * it has grown by a quarter, which is once in a thousand releases.
 */
import { constants, type PerformanceNodeEntry, PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Bytes of old garbage that a service may keep. */
const room = 64 * 2 ** 20;

/**
 * By how many percent a heap with `live` bytes of old objects grows for this room; 0 leaves it to V8, which gives large
 * heaps no less.
 */
export function growthFor(live: number): number {
  const percent = Math.round((100 * room) / live);
  return percent < 25 ? 0 : percent;
}

function setGrowth(): void {
  let live = 0;
  for (const { space_name, space_used_size } of getHeapSpaceStatistics()) {
    if (!space_name.startsWith("new_")) live += space_used_size;
  }
  setFlagsFromString(`--heap-growing-percent=${growthFor(live)}`);
}

/**
 * Gives this process's heap its room from now on. V8 reads the flag at the end of each marking, unlike others, which are
 * read once; what is alive is known best just after one, for the next.
 */
export function keepRoom(): void {
  setGrowth();
  new PerformanceObserver((list) => {
    const collections = list.getEntries() as PerformanceNodeEntry[];
    if (collections.some(({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR)) setGrowth();
  }).observe({ entryTypes: ["gc"] });
}
