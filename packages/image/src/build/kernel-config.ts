// SPDX-License-Identifier: Apache-2.0
/**
 * What a kernel is configured with: variants, fragments, and whether what they resolve to is what was asked for and
 * committed.
 *
 * Invariants: a symbol that a fragment asks for (set or not set) and that the kernel's own configuration resolves
 * otherwise is named; so is a resolved configuration that differs from the committed one.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { ImageError } from "../errors.ts";

/**
 * "services" adds what contained services need (`kernel/services.config`), "volumes" to that what persistent volumes need
 * (`kernel/volumes.config`); "plain" has nothing of either.
 */
export type KernelVariant = "plain" | "services" | "volumes";

/** Fragments that a variant adds to the common ones, in this order; lines of a later one replace those before it. */
export const variantFragments: Record<KernelVariant, readonly string[]> = {
  plain: [],
  services: ["services"],
  volumes: ["services", "volumes"],
};

/** Where the fragments are: the repository's `kernel/`; and what of them: "plain" when left out. */
export interface ConfigInputs {
  directory: string;
  variant?: KernelVariant;
}

const commonFragments = ["guest", "hardening", "containers", "tdx"];
/** The committed configuration of a kernel. */
const resolvedName = (variant: KernelVariant, flavour: Flavour): string =>
  variant === "plain" ? `resolved-${flavour}.config` : `resolved-${variant}-${flavour}.config`;

/** Symbol (without `CONFIG_`) to value: `y`, a number, a quoted string, or `n` for "is not set". */
export type KernelConfig = Map<string, string>;

/**
 * Reads a `.config` or a fragment. Errors: ImageError `kernel/fragment` for a line that is neither a symbol nor a
 * comment, and for a symbol that appears twice.
 */
export function parseConfig(text: string, name: string): KernelConfig {
  const config: KernelConfig = new Map();
  for (const [index, line] of text.split("\n").entries()) {
    const set = /^CONFIG_(\w+)=(\S.*)$/.exec(line);
    const unset = /^# CONFIG_(\w+) is not set$/.exec(line);
    const symbol = set?.[1] ?? unset?.[1];
    if (symbol === undefined && /^(#(?! CONFIG_\w+ ).*)?$/.test(line)) continue;
    if (symbol === undefined) {
      throw new ImageError(
        "kernel/fragment",
        `${name}, line ${index + 1}: '${line}' is not a configuration line`,
        {
          fix: "CONFIG_X=value, or '# CONFIG_X is not set'",
        },
      );
    }
    if (config.has(symbol)) {
      throw new ImageError(
        "kernel/fragment",
        `${name}, line ${index + 1}: CONFIG_${symbol} is already set above`,
      );
    }
    config.set(symbol, set?.[2] ?? "n");
  }
  return config;
}

/** What was asked for and resolved otherwise; `n` and absent are the same. */
export function unmetRequests(
  requested: KernelConfig,
  resolved: KernelConfig,
): { symbol: string; requested: string; resolved: string }[] {
  return [...requested]
    .map(([symbol, value]) => ({ symbol, requested: value, resolved: resolved.get(symbol) ?? "n" }))
    .filter((entry) => entry.requested !== entry.resolved);
}

/** Fails when the kernel's configuration did not follow the fragments. */
export function checkRequests(requested: KernelConfig, resolved: KernelConfig, flavour: Flavour): void {
  const unmet = unmetRequests(requested, resolved);
  if (unmet.length === 0) return;
  throw new ImageError(
    "kernel/dropped",
    `${unmet.length} symbols of the ${flavour} kernel resolve otherwise`,
    {
      facts: unmet.map((entry) => [
        `CONFIG_${entry.symbol}`,
        `${entry.resolved}, although the fragments ask for ${entry.requested}`,
      ]),
      fix: "ask for what these symbols depend on, or take them out of kernel/*.config and say why in docs/kernel.md",
    },
  );
}

/** Fails when the resolved configuration is not the committed one; leaves it in the cache for whoever takes it over. */
export async function checkResolved(
  found: string,
  flavour: Flavour,
  inputs: ConfigInputs & { cache: string },
): Promise<void> {
  const name = resolvedName(inputs.variant ?? "plain", flavour);
  const committed = await readFile(join(inputs.directory, name), "utf8").catch(() => "");
  if (found === committed) return;
  const kept = join(inputs.cache, "kernel", name);
  await writeFile(kept, found);
  const [before, after] = [parseConfig(committed, name), parseConfig(found, kept)];
  const changed = [...new Set([...before.keys(), ...after.keys()])].filter(
    (symbol) => (before.get(symbol) ?? "n") !== (after.get(symbol) ?? "n"),
  );
  const shown = changed.slice(0, 20).map((symbol): [string, string] => {
    return [`CONFIG_${symbol}`, `${after.get(symbol) ?? "n"}, committed ${before.get(symbol) ?? "n"}`];
  });
  throw new ImageError("kernel/resolved", `the ${flavour} kernel's configuration is not the committed one`, {
    facts: [...shown, ["differing symbols", String(changed.length)]],
    fix: `review the difference; if it is intended: cp ${kept} kernel/${name}, and commit it`,
  });
}

/** The fragments of a kernel, in one text and parsed. */
export async function readFragments({ directory, variant = "plain" }: ConfigInputs, flavour: Flavour) {
  const names = [...commonFragments, flavour].map((name) => `${name}.config`);
  const text = (await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")))).join("\n");
  const requested = parseConfig(text, names.join(" + "));
  let fragments = { text, requested };
  for (const name of variantFragments[variant].map((fragment) => `${fragment}.config`)) {
    const own = await readFile(join(directory, name), "utf8");
    const replaced = parseConfig(own, name);
    const others = fragments.text
      .split("\n")
      .filter((line) => !replaced.has(/^(?:# )?CONFIG_(\w+)/.exec(line)?.[1] ?? ""));
    fragments = {
      text: [...others, own].join("\n"),
      requested: new Map([...fragments.requested, ...replaced]),
    };
  }
  return fragments;
}
