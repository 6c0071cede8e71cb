// SPDX-License-Identifier: Apache-2.0
/** `caisson kernel`: which kernels could be used and why not the others; what differs between two; what is hardened. */

import { existsSync, readFileSync } from "node:fs";
import { AuditError } from "@caisson/audit";
import {
  capabilities,
  describedRecipes,
  type Evaluation,
  evaluate,
  type KernelRecipe,
} from "@caisson/audit/kernel-candidates";
import { diffConfigs, type KernelConfig, readKernelConfig } from "@caisson/audit/kernel-config";
import { readKernelImage } from "@caisson/audit/kernel-image";
import { checkRecommendations } from "@caisson/audit/kernel-recommendations";
import { debianRecipes, lockedRecipe, treeRecipe } from "@caisson/audit/kernel-sources";
import { cacheDirectory, cachePath } from "@caisson/image/fetch";
import { parseLock } from "@caisson/image/lock";
import { findMirrors } from "@caisson/image/mirror";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { jsonText } from "../views/answer.ts";
import { fold } from "../views/fold.ts";

const suites = ["bookworm", "bookworm-backports", "trixie", "trixie-backports", "forky"];
const surveyLimitMs = 120_000;
const print = (text: string) => process.stdout.write(text);

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`, "name an existing file");
  }
}

/** A `.config`, compressed or not, or a bzImage that carries one. */
function readConfig(path: string): KernelConfig {
  const bytes = read(path);
  return bytes.toString("latin1", 0x202, 0x206) === "HdrS"
    ? readKernelImage(bytes).config
    : readKernelConfig(bytes);
}

/** The source package that a lock names, where the cache has it. */
async function fromLock(path: string): Promise<KernelRecipe> {
  const lock = parseLock(read(path).toString("utf8"), path);
  const locked = lock.packages.find(({ groups }) => groups.includes("source"));
  const cached = locked === undefined ? undefined : cachePath(cacheDirectory(process.env), locked.sha256);
  if (cached === undefined || !existsSync(cached)) {
    throw new AuditError("audit/subject", `the kernel source that ${path} names is not in the cache`, {
      fix: "caisson build fetches it",
    });
  }
  return lockedRecipe(lock, cached);
}

/** What the mirror offers; suites that cannot be read are named on stderr. */
async function fromDebian(mirror: string | undefined): Promise<KernelRecipe[]> {
  const { debian } = await findMirrors(mirror === undefined ? {} : { mirror });
  const signal = AbortSignal.timeout(surveyLimitMs);
  const lists = await Promise.all(
    suites.map((suite) =>
      debianRecipes(debian, suite, signal).catch((error: Error) => {
        process.stderr.write(`caisson kernel: ${suite} is left out: ${error.message}\n`);
        return [];
      }),
    ),
  );
  return lists.flat();
}

function render({ recipe, accepted, verdicts }: Evaluation): string {
  const lines = [`${accepted ? "accepted" : "refused "}  ${recipe.name}   (${recipe.origin})`];
  for (const { capability, answer, basis, reason } of verdicts) {
    if (answer === "yes") continue;
    lines.push(
      `          ${answer.padEnd(7)} ${capability.title}${capability.required ? "" : " (recommended)"}: ${reason} [${basis}; ${capability.source}]`,
    );
  }
  const bases = new Set(verdicts.map(({ basis }) => basis));
  lines.push(`          judged by ${[...bases].join(" and ")}`);
  return `${lines.join("\n")}\n`;
}

interface CandidateOptions {
  source: string[];
  lock?: string;
  mirror?: string;
  debian: boolean;
  json?: boolean;
}

const candidates = new Command("candidates")
  .description("kernel recipes against what a confidential guest needs")
  .option("--source <directory...>", "unpacked kernel trees, judged by their source", [])
  .option(
    "--lock <file>",
    "the source package that a lock names, judged by its source (reads it whole: a minute)",
  )
  .option("--mirror <uri>", "Debian mirror (or CAISSON_MIRROR; else from the apt configuration)")
  .option("--no-debian", "do not ask the mirror")
  .option("--json", "one JSON document")
  .action(async (options: CandidateOptions) => {
    const mirror = options.mirror ?? process.env["CAISSON_MIRROR"];
    const recipes = [
      ...describedRecipes,
      ...(options.debian ? await fromDebian(mirror) : []),
      ...(options.lock === undefined ? [] : [await fromLock(options.lock)]),
      ...options.source.map(treeRecipe),
    ];
    const evaluations = recipes.map(evaluate);
    if (options.json === true) {
      const needs = capabilities.map(({ id, title, required, since, source }) => ({
        id,
        title,
        required,
        since,
        source,
      }));
      const list = evaluations.map(({ recipe, accepted, verdicts }) => ({
        ...recipe,
        accepted,
        verdicts: verdicts.map(({ capability, ...rest }) => ({ capability: capability.id, ...rest })),
      }));
      print(jsonText({ version: "caisson/kernel-candidates/v1", capabilities: needs, candidates: list }));
    } else print(fold(evaluations.map(render).join("\n"), process.stdout.columns));
  });

const config = new Command("config").description(
  "kernel configurations: files, or the kernels that carry them",
);

config
  .command("diff <a> <b>")
  .description("symbols that differ")
  .option("--json", "one JSON document")
  .action((a: string, b: string, options: { json?: boolean }) => {
    const rows = diffConfigs(readConfig(a), readConfig(b));
    if (options.json === true) print(jsonText({ a, b, differences: rows }));
    else print(rows.map((row) => `${row.symbol.padEnd(40)} ${row.a} → ${row.b}\n`).join(""));
  });

config
  .command("check <file>")
  .description("against the recommendations of the Kernel Self Protection Project")
  .option("--json", "one JSON document")
  .action((file: string, options: { json?: boolean }) => {
    const findings = checkRecommendations(readConfig(file));
    const count = (outcome: string) => findings.filter((one) => one.outcome === outcome).length;
    const summary = { followed: count("ok"), deviations: count("deviation"), failed: count("fail") };
    if (options.json === true) print(jsonText({ file, ...summary, findings }));
    else {
      for (const { symbol, want, found, outcome, reason } of findings) {
        if (outcome !== "ok")
          print(
            `${outcome.padEnd(9)} ${symbol} is ${found}, recommended ${want}${reason === undefined ? "" : `: ${reason}`}\n`,
          );
      }
      print(
        `${summary.followed} followed, ${summary.deviations} explained deviations, ${summary.failed} failed\n`,
      );
    }
    if (summary.failed > 0) {
      throw new AuditError(
        "kernel/refused",
        `${file} leaves ${summary.failed} recommendations without a reason`,
        { kind: "rejected" },
      );
    }
  });

export const command = new Command("caisson kernel")
  .description("Which kernels could be used, what differs between configurations, and what is hardened.")
  .addCommand(candidates)
  .addCommand(config);
