// SPDX-License-Identifier: Apache-2.0
/** `caisson time` from outside: its output, its exit codes. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { startTimeServers, type TimeServers } from "@caisson/host/time-servers";

const main = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

suite("caisson time", () => {
  let servers: TimeServers;
  const directory = mkdtempSync(join(tmpdir(), "caisson-time-command-"));
  const caisson = async (
    configuration: unknown,
    options: string[] = [],
    command = ([program, ...rest]: string[]): [string, string[]] => [program!, rest],
  ) => {
    const file = join(directory, "servers.json");
    writeFileSync(file, typeof configuration === "string" ? configuration : JSON.stringify(configuration));
    const child = spawn(...command([process.execPath, main, "time", "--servers", file, ...options]));
    const [stdout, stderr, code] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise((resolve) => child.once("exit", resolve)),
    ]);
    return { stdout, stderr, code };
  };
  /** About all four: those who agree do not wait long for the liar, so where it is late, all are asked again. */
  const aboutAll = async (...options: string[]) => {
    for (let left = 20; ; left--) {
      const result = await caisson({ sources: sources(0, 1, 2, 3) }, options);
      if (left === 0 || result.stdout.includes("falseticker")) return result;
    }
  };
  const sources = (...indices: number[]) => indices.map((index) => servers.servers[index]!.source);

  before(async () => {
    servers = await startTimeServers([
      { operator: "a" },
      { operator: "b" },
      { operator: "c" },
      { operator: "liar", offsetMs: 3_600_000 },
    ]);
  });
  after(async () => {
    await servers.stop();
    rmSync(directory, { recursive: true });
  });

  test("a table, a picture and the agreement; the liar is named", async () => {
    const { stdout, code } = await aboutAll();
    equal(code, 0);
    match(stdout, /time-4\.caisson\.test +liar .* falseticker/);
    match(stdout, /├─+┤/);
    match(stdout, /agreement +.*├─+┤/);
    match(stdout, /3 operators agree, in \d+ ms\nthis clock is \S+ ± \S+ ms (behind|ahead)\n/);
  });
  test("--json is one document", async () => {
    const { stdout, stderr, code } = await aboutAll("--json");
    const report = JSON.parse(stdout);
    deepEqual([code, report.agreed, report.operators], [0, true, ["a", "b", "c"]]);
    // What takes less than a second says nothing meanwhile.
    match(stderr, /^(asking 4 servers for the time\n)?$/);
    ok(Math.abs(Date.parse(report.time) - Date.now()) < 30_000);
    deepEqual(
      report.sources.map(({ verdict }: { verdict: string }) => verdict),
      ["agrees", "agrees", "agrees", "falseticker"],
    );
  });
  test("no agreement: what each source did, and exit code 10", async () => {
    const dead = { ...sources(0)[0]!, kePort: 1 };
    const { stdout, stderr, code } = await caisson(
      { sources: [dead, ...sources(1, 2)], limits: { timeoutMs: 4000 } },
      ["--json"],
    );
    equal(code, 10);
    match(
      stderr,
      /no agreement on the time.*2 operators agree at most, 3 are needed.*\[time\/no-agreement\]/,
    );
    const report = JSON.parse(stdout);
    deepEqual([report.agreed, report.sources[0].error.code], [false, "ke/connect"]);
  });
  /**
   * The machine that runs the tests must keep its clock, so this is run by a process that may not set it: setpriv(1)
   * takes CAP_SYS_TIME (capability 25, include/uapi/linux/capability.h) from what it starts.
   */
  test("--set, where the kernel refuses: what it said, what to do, and exit code 20", async () => {
    const drop = process.getuid!() === 0 ? ["setpriv", "--bounding-set", "-sys_time", "--"] : ["env"];
    const status = execFileSync(drop[0]!, [...drop.slice(1), "cat", "/proc/self/status"], {
      encoding: "utf8",
    });
    const effective = BigInt(`0x${/CapEff:\s*([0-9a-f]+)/.exec(status)![1]}`);
    equal((effective >> 25n) & 1n, 0n, "CAP_SYS_TIME cannot be given up here");
    const before = Date.now() - performance.now();
    const result = await caisson({ sources: sources(0, 1, 2) }, ["--set", "--json"], (words) => [
      drop[0]!,
      [...drop.slice(1), ...words],
    ]);
    equal(result.code, 20);
    equal(JSON.parse(result.stdout).agreed, true);
    match(result.stderr, /this machine's clock was not set {3}\[host\/unsupported\]/);
    match(result.stderr, /cause +date: cannot set date: Operation not permitted/);
    match(result.stderr, /try +run it as root/);
    ok(Math.abs(Date.now() - performance.now() - before) < 1000, "the clock is where it was");
  });
  test("--set without agreement sets nothing", async () => {
    const { stderr, code } = await caisson(
      { sources: sources(0, 1, 3), limits: { timeoutMs: 600 } },
      ["--set"],
      (words) => ["env", ["PATH=", ...words]], // no date(1) to be found, should it be called
    );
    equal(code, 10);
    ok(!/the clock was|not set/.test(stderr), stderr);
  });
  for (const [name, configuration, message] of [
    ["no JSON", "{", /cannot read .*servers\.json/],
    ["an unknown field", { servers: [] }, /servers: there is no such field/],
  ] as const) {
    test(`${name}: exit code 30`, async () => {
      const { stderr, stdout, code } = await caisson(configuration);
      deepEqual([code, stdout], [30, ""]);
      match(stderr, message);
    });
  }
});
