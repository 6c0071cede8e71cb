// SPDX-License-Identifier: Apache-2.0
/** Lines of a policy that is written: YAML, and above it what the line means. */
export type Line = readonly [yaml: string, comment?: string];

export const quoted = (text: string): string => JSON.stringify(text);
export const list = (...values: string[]): string => `[${values.map(quoted).join(", ")}]`;
