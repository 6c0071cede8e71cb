/** A kernel configuration (`.config`) as a map, and the difference of two. */
import { AuditError } from "./errors.ts";

/** Symbol without `CONFIG_` → `y`, `m`, a number, or a string with its quotes. What is not set is not in it. */
export type KernelConfig = ReadonlyMap<string, string>;

/** Reads a `.config`. Throws AuditError `kernel/config` with the line that is neither an assignment nor a comment. */
export function parseKernelConfig(text: string): KernelConfig {
  const config = new Map<string, string>();
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const [, symbol, value] = /^CONFIG_(\w+)=(\S.*)$/.exec(line.trimEnd()) ?? [];
    if (symbol === undefined || value === undefined) {
      throw new AuditError(
        "kernel/config",
        `line ${index + 1} is no kernel configuration: '${line.slice(0, 80)}'`,
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
