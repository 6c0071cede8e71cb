// SPDX-License-Identifier: Apache-2.0
/** A kernel configuration (`.config`) as a map, and the difference of two. */
import { gunzipSync } from "node:zlib";
import { messageOf } from "@caisson/vocabulary/failure";
import { AuditError } from "./errors.ts";

/** Symbol without `CONFIG_` → `y`, `m`, a number, or a string with its quotes. What is not set is not in it. */
export type KernelConfig = ReadonlyMap<string, string>;

const maximumConfig = 16 << 20;

/** A `.config` as a file: plain, or compressed as /proc/config.gz is. Throws AuditError `kernel/config`. */
export function readKernelConfig(bytes: Uint8Array): KernelConfig {
  const isCompressed = bytes[0] === 0x1f && bytes[1] === 0x8b;
  try {
    const plain = isCompressed ? gunzipSync(bytes, { maxOutputLength: maximumConfig }) : bytes;
    return parseKernelConfig(Buffer.from(plain).toString("utf8"));
  } catch (error) {
    if (error instanceof AuditError) throw error;
    throw new AuditError(
      "kernel/config",
      `this is not a whole gzip stream of at most 16 MiB: ${messageOf(error)}`,
    );
  }
}

/**
 * Parses a `.config`, whatever ends its lines. Throws AuditError `kernel/config` with the line that is neither an
 * assignment nor a comment.
 */
export function parseKernelConfig(text: string): KernelConfig {
  const config = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const [, symbol, value] = /^CONFIG_(\w+)=(\S.*)$/.exec(line.trimEnd()) ?? [];
    if (symbol === undefined || value === undefined) {
      throw new AuditError(
        "kernel/config",
        `line ${index + 1} is not of a kernel configuration: '${line.slice(0, 80)}'`,
      );
    }
    if (value !== "n") config.set(symbol, value);
  }
  if (config.size === 0)
    throw new AuditError("kernel/config", "there is not one symbol in this configuration");
  return config;
}

/** The value of a symbol; `n` when it is not set or does not exist. */
export function valueOf(config: KernelConfig, symbol: string): string {
  return config.get(symbol) ?? "n";
}

/** Symbols that differ, sorted; `n` stands for "not set". */
export function diffConfigs(a: KernelConfig, b: KernelConfig): { symbol: string; a: string; b: string }[] {
  return [...new Set([...a.keys(), ...b.keys()])]
    .sort()
    .map((symbol) => ({ symbol, a: valueOf(a, symbol), b: valueOf(b, symbol) }))
    .filter((row) => row.a !== row.b);
}
