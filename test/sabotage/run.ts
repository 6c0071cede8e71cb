// SPDX-License-Identifier: Apache-2.0
/**
 * Makes one line of the product wrong, then another, and sees whether a test notices.
 *
 *   node test/sabotage/run.ts [FILTER…] [--tier TIER] [--jobs N] [--fresh] [--check] [--write]
 *
 * FILTER: only sabotages whose file, test or text contains one of these. --tier: only those that a test of this tier
 * must notice; unit by default, "all" for every one (e2e and attacks boot machines). --jobs: how many at once, 2 by
 * default. --fresh: results of an earlier run do not count. --check: only whether every listed line is there.
 * --write: writes docs/sabotage.md from the results there are.
 *
 * Everything happens in copies of the tree. Before a test may notice anything, it must pass in its copy. Exit code 1:
 * something survived, or a test fails by itself; 2: a listed line is not there any more.
 */
import { spawn } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { copyTree } from "./copy.ts";
import { writeDocument } from "./document.ts";
import { sabotages } from "./list.ts";
import { type Result, Results, resultKey } from "./results.ts";
import { obstacle, type Sabotage, sabotaged, type Tier, tierOf } from "./sabotage.ts";

const repository = new URL("../../", import.meta.url).pathname;
/** Seconds for a single test, then for its file: what is still running then is killed. */
const limits: Record<Tier, [test: number, file: number]> = {
  unit: [45, 120],
  integration: [600, 1200],
  e2e: [1800, 2700],
  attacks: [1800, 2700],
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tier: { type: "string", default: "unit" },
    jobs: { type: "string", default: "2" },
    fresh: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});

const chosen = sabotages.filter(
  ({ what, file, test }) =>
    (values.tier === "all" || tierOf(test) === values.tier) &&
    (positionals.length === 0 || positionals.some((filter) => `${what} ${file} ${test}`.includes(filter))),
);

const gone = chosen
  .map((sabotage) => obstacle(repository, sabotage))
  .filter((reason) => reason !== undefined);
for (const reason of gone) process.stderr.write(`${reason}\n`);
if (gone.length > 0) process.exit(2);
if (values.check) process.exit(0);

const results = new Results(repository);
/** Copies that are there, so that they go whatever happens. */
const copies = new Set<string>();
const removeCopies = (): void => {
  for (const copy of copies) rmSync(copy, { recursive: true, force: true });
};
process.on("exit", removeCopies);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(130));

/** Runs one test file in a copy; undefined: it passes. Its process group ends with it. */
function failure(copy: string, test: string): Promise<{ late: boolean; by?: string } | undefined> {
  return new Promise((resolve, reject) => {
    const [testLimit, fileLimit] = limits[tierOf(test)];
    const flags = ["--disable-warning=ExperimentalWarning", "--test", "--test-reporter=tap"];
    flags.push(`--test-timeout=${testLimit * 1000}`, test);
    const child = spawn(process.execPath, flags, {
      cwd: copy,
      detached: true,
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    });
    const end = (): void => {
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {
        // It has ended, and all that it started.
      }
    };
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      end();
    }, fileLimit * 1000);
    let by: string | undefined;
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!.slice(0, 10_000);
      // The innermost failure comes first.
      by ??= lines.map((line) => /^\s*not ok \d+ - (.*)$/.exec(line)?.[1]).find((name) => name !== undefined);
    });
    child.on("error", reject);
    child.on("close", (status) => {
      clearTimeout(timer);
      end();
      resolve(status === 0 ? undefined : { late, ...(by !== undefined && { by }) });
    });
  });
}

/** Whether a test passes as it is, asked once. */
const sound = new Map<string, Promise<boolean>>();
function isSound(copy: string, test: string): Promise<boolean> {
  let known = sound.get(test);
  if (known === undefined) {
    known = failure(copy, test).then((failed) => failed === undefined);
    sound.set(test, known);
  }
  return known;
}

async function measure(copy: string, sabotage: Sabotage): Promise<Result | "unsound"> {
  if (!(await isSound(copy, sabotage.test))) return "unsound";
  const path = join(copy, sabotage.file);
  const whole = readFileSync(path);
  const started = performance.now();
  writeFileSync(path, sabotaged(copy, sabotage));
  try {
    const failed = await failure(copy, sabotage.test);
    const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
    if (failed === undefined) return { outcome: "survived", seconds };
    const late = failed.late && failed.by === undefined;
    return { outcome: late ? "late" : "noticed", ...(failed.by !== undefined && { by: failed.by }), seconds };
  } finally {
    writeFileSync(path, whole);
  }
}

const queue = chosen.filter((sabotage) => values.fresh || results.get(sabotage) === undefined);
const unsound = new Set<string>();
async function worker(): Promise<void> {
  if (queue.length === 0) return;
  const copy = copyTree(repository);
  copies.add(copy);
  for (let sabotage = queue.shift(); sabotage !== undefined; sabotage = queue.shift()) {
    const key = resultKey(copy, sabotage);
    const result = await measure(copy, sabotage);
    if (result === "unsound") unsound.add(sabotage.test);
    else {
      results.add(key, result);
      process.stdout.write(`${line(sabotage, result)}\n`);
    }
  }
}

function line({ what, file }: Sabotage, { outcome, by, seconds }: Result): string {
  const mark = { noticed: "noticed ", late: "LATE    ", survived: "SURVIVED" }[outcome];
  return `${mark} ${String(seconds).padStart(6)} s  ${file}: ${what}${by === undefined ? "" : `  [${by}]`}`;
}

await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
for (const test of unsound) process.stderr.write(`${test} fails in a tree that nobody sabotaged\n`);
const measured = chosen.flatMap((sabotage) => {
  const result = results.get(sabotage);
  return result === undefined ? [] : [{ sabotage, result }];
});
const survivors = measured.filter(({ result }) => result.outcome === "survived");
const count = (outcome: Result["outcome"]) =>
  measured.filter(({ result }) => result.outcome === outcome).length;
process.stdout.write(
  `${chosen.length} sabotages: ${count("noticed")} noticed, ${count("late")} by a time limit alone, ${survivors.length} survived\n`,
);
for (const { sabotage, result } of survivors) process.stdout.write(`${line(sabotage, result)}\n`);
if (values.write) writeDocument(repository, sabotages, results);
process.exitCode = survivors.length > 0 || unsound.size > 0 ? 1 : 0;
