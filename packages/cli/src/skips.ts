// SPDX-License-Identifier: Apache-2.0
/**
 * A reporter of node:test that writes one line for each test that did not run: its file, its name and the reason,
 * separated by tabs. `caisson test` counts them as failures: what a test needs is there, or the run is not proof.
 */

interface Outcome {
  type: string;
  data: { name?: string; file?: string; skip?: string | boolean; todo?: string | boolean };
}

export default async function* skips(source: AsyncIterable<Outcome>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const reason = data.skip ?? data.todo;
    if (reason === undefined || reason === false) continue;
    yield `${[data.file ?? "", data.name ?? "", reason === true ? "no reason" : reason].join("\t")}\n`;
  }
}

/** The one thing that may be missing, and how a test says so. */
export const absentVectors = "../shared/vectors is absent";
