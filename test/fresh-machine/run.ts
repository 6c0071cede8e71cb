// SPDX-License-Identifier: Apache-2.0
/**
 * Both commands of the README on fresh machines: Debian 12 and 13, minimal, each with its own Node and npm, as root and
 * as a user without sudo. Needs root, git and mmdebstrap; not a part of `caisson test`, as it runs that.
 *
 *     node_modules/.bin/node test/fresh-machine/run.ts [--cache DIR [--seed]] [--tests full|quick|none|TIER[ FILE],…]
 *         [--suite bookworm|trixie]… [--user root|user]… [--keep]
 *
 * The commit that is checked out is tested. `--cache DIR` keeps roots, Debian and npm packages and Caisson's own cache
 * for the next run (a first one downloads a gigabyte and compiles kernels); `--seed` begins it with this machine's.
 * `--tests quick` runs the tiers and files that depend most on what is installed, `check,integration,e2e up` two tiers
 * and a file of a third. Logs and, with `--keep`, the roots stay in the directory that is printed.
 */
import { execFileSync } from "node:child_process";
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  type Bind,
  cachePlaces,
  type EnterOptions,
  enter,
  type FreshRoot,
  makeRoot,
  ownCache,
  type Suite,
  suites,
} from "./root.ts";

const repository = new URL("../../", import.meta.url).pathname;
const clone = "/srv/caisson";
const tester = { name: "tester", id: 1000 };
/** Test runs of `--tests quick`: tiers, and files that need tools, browsers, mirrors or namespaces. */
const quick = [
  ["check"],
  ["unit"],
  ...["audit-image", "browser", "erofs", "fetch", "launcher", "lock", "measure-f"].map((part) => [
    "integration",
    part,
  ]),
];
/** A first `up` compiles a kernel on two cores, a full test run boots some hundred machines. */
const limitMs = 3 * 3600_000;

const { values } = parseArgs({
  options: {
    cache: { type: "string" },
    seed: { type: "boolean", default: false },
    tests: { type: "string", default: "full" },
    suite: { type: "string", multiple: true, default: Object.keys(suites) },
    user: { type: "string", multiple: true, default: ["root", "user"] },
    keep: { type: "boolean", default: false },
  },
});

interface Ended {
  status: number | null;
  text: string;
}

const place = mkdtempSync(join(tmpdir(), "caisson-fresh-"));
const results: { leg: string; ok: boolean; seconds: number; why: string }[] = [];

/** Runs `command`, writes what it says to a log, and interrupts it as Ctrl-C does once it says `until`. */
function command(
  root: FreshRoot,
  words: readonly string[],
  options: EnterOptions,
  log: string,
  until?: string,
): Promise<Ended> {
  const child = enter(root, words, options);
  const file = createWriteStream(log, { flags: "a" });
  file.write(`\n$ ${words.join(" ")}\n`);
  let text = "";
  let interrupted = false;
  const hear = (chunk: Buffer): void => {
    file.write(chunk);
    text = (text + chunk.toString()).slice(-1_000_000);
    if (until !== undefined && !interrupted && text.includes(until)) {
      interrupted = true;
      process.kill(-child.pid!, "SIGINT");
    }
  };
  child.stdout!.on("data", hear);
  child.stderr!.on("data", hear);
  const timer = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), limitMs);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => {
      clearTimeout(timer);
      file.end();
      resolve({ status, text });
    });
  });
}

/** Runs one leg; `judge` says what is wrong with how it ended, or nothing. */
async function leg(name: string, work: () => Promise<string | undefined>): Promise<boolean> {
  process.stdout.write(`${name} …\n`);
  const started = performance.now();
  const why = await work().catch((error: Error) => error.message);
  const seconds = (performance.now() - started) / 1000;
  results.push({ leg: name, ok: why === undefined, seconds, why: why ?? "" });
  process.stdout.write(`${why === undefined ? "  ok" : `  FAILED: ${why}`} (${seconds.toFixed(0)} s)\n`);
  return why === undefined;
}

/** Its last lines, for a person who has to find out why. */
const tail = (text: string): string => text.trimEnd().split("\n").slice(-12).join("\n    ");

/** What is bound into the root so that a second run is quick. */
function binds(suite: Suite, user?: typeof tester): Bind[] {
  if (values.cache === undefined) return [];
  const who = user?.name ?? "root";
  const own = (name: string): string => join(values.cache!, name);
  const caisson = own(`caisson-${who}`);
  if (!existsSync(caisson)) {
    if (values.seed) execFileSync("cp", ["-a", ownCache(), caisson]);
    else mkdirSync(caisson, { recursive: true });
    if (user !== undefined) execFileSync("chown", ["-R", `${user.id}:${user.id}`, caisson]);
  }
  const places = cachePlaces(user);
  const made = [
    { source: caisson, place: places.caisson },
    { source: own(`npm-${who}`), place: places.npm },
    { source: own(`apt-${suite}`), place: "/var/cache/apt/archives" },
  ];
  for (const { source } of made) mkdirSync(source, { recursive: true });
  if (user !== undefined) execFileSync("chown", [`${user.id}:${user.id}`, own(`npm-${who}`)]);
  return made;
}

/** The test runs: each has to end well. */
async function tests(run: (words: readonly string[]) => Promise<Ended>): Promise<string | undefined> {
  const runs =
    values.tests === "full"
      ? [[]]
      : values.tests === "quick"
        ? quick
        : values.tests.split(",").map((words) => words.split(" "));
  for (const words of runs) {
    const { status, text } = await run(["./caisson", "test", ...words]);
    if (status !== 0) return `caisson test ${words.join(" ")} ended with ${status}\n    ${tail(text)}`;
  }
  return undefined;
}

const answers = "answers at http://";
const upEnded = ({ status, text }: Ended): string | undefined =>
  status === 0 && text.includes("evidence accepted") && text.includes(answers)
    ? undefined
    : `ended with ${status}\n    ${tail(text)}`;

async function asRoot(root: FreshRoot, label: string, log: string): Promise<void> {
  const options: EnterOptions = { way: "chroot", cwd: clone, binds: binds(root.suite) };
  const up = await leg(`${label}: ./caisson up examples/hello`, async () =>
    upEnded(await command(root, ["./caisson", "up", "examples/hello"], options, log, answers)),
  );
  if (up && values.tests !== "none") {
    await leg(`${label}: ./caisson test (${values.tests})`, () =>
      tests((words) => command(root, words, options, log)),
    );
  }
}

async function asUser(root: FreshRoot, label: string, log: string): Promise<void> {
  execFileSync("chroot", [root.directory, "useradd", "--create-home", `--uid=${tester.id}`, tester.name]);
  execFileSync("chown", ["-R", `${tester.id}:${tester.id}`, join(root.directory, clone)]);
  for (const path of [".cache", ".npm"]) {
    mkdirSync(join(root.directory, "home", tester.name, path), { recursive: true });
    execFileSync("chown", [`${tester.id}:${tester.id}`, join(root.directory, "home", tester.name, path)]);
  }
  const options: EnterOptions = { way: "pivot", cwd: clone, user: tester, binds: binds(root.suite, tester) };
  const { user: _, ...administrator } = options;
  const readme = [["up", "examples/hello"], ["test"]];
  for (const words of readme) {
    const name = `./caisson ${words.join(" ")}`;
    const listed = await leg(`${label}: ${name} lists what is missing`, async () => {
      const { status, text } = await command(root, ["./caisson", ...words], options, log);
      const install = /try: sudo (apt-get install .*)/.exec(text)?.[1];
      if (status !== 20 || install === undefined) return `ended with ${status}\n    ${tail(text)}`;
      // The administrator does what the list says.
      const update = await command(root, ["apt-get", "update"], administrator, log);
      const installed = await command(root, [...install.split(" "), "-y"], administrator, log);
      return update.status === 0 && installed.status === 0
        ? undefined
        : `what it lists does not install: ${install}`;
    });
    if (!listed) return;
    const works = await leg(`${label}: ${name} after that`, async () =>
      words[0] === "up"
        ? upEnded(await command(root, ["./caisson", ...words], options, log, answers))
        : values.tests === "none"
          ? undefined
          : tests((run) => command(root, run, options, log)),
    );
    if (!works) return;
  }
}

process.stdout.write(`logs: ${place}\n`);
for (const suite of values.suite as Suite[]) {
  for (const who of values.user) {
    const label = `Debian ${suites[suite]}, ${who}`;
    const directory = join(place, `${suite}-${who}`);
    let root: FreshRoot | undefined;
    const made = await leg(`${label}: a minimal root with nodejs and npm`, async () => {
      root = await makeRoot(suite, directory, values.cache && join(values.cache, "roots"));
      const where = join(root.directory, clone);
      execFileSync("git", ["clone", "--quiet", "--no-hardlinks", repository, where]);
      return undefined;
    });
    const log = join(place, `${suite}-${who}.log`);
    if (made) await (who === "root" ? asRoot : asUser)(root!, label, log);
    if (!values.keep) rmSync(directory, { recursive: true, force: true });
  }
}
const failed = results.filter(({ ok }) => !ok);
process.stdout.write(`\n${results.length - failed.length} legs passed, ${failed.length} failed\n`);
process.exitCode = failed.length === 0 ? 0 : 1;
