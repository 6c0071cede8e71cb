// SPDX-License-Identifier: Apache-2.0
/** How benchmarks make figures of what they measured. */
import type { Row } from "@caisson/cli/commands/bench";

/** The upper one of two that are in the middle. */
export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Processor time of this process for some work, in ms. */
export async function processorTime(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** What each of `counts` costs, beside what the first of them does: a row for each of `figures`. */
export async function* besideFirst<Figure extends string>(
  counts: readonly number[],
  measure: (count: number) => Promise<Record<Figure, number>>,
  figures: readonly (readonly [text: string, unit: string, figure: Figure])[],
  name: (text: string, count: number) => string,
): AsyncIterable<Row> {
  let few: Record<Figure, number> | undefined;
  for (const count of counts) {
    const many = await measure(count);
    for (const [text, unit, figure] of few === undefined ? [] : figures) {
      const peer = { peer: few![figure], note: `peer: with ${counts[0]}` };
      yield { name: name(text, count), unit, ours: many[figure], ...peer };
    }
    few ??= many;
  }
}
