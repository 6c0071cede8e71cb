// SPDX-License-Identifier: Apache-2.0
/** `caisson up` with applications that serve nothing: what keeps running, what ends, and how that is said. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { imageDirectory, readSpec } from "@caisson/image";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { writeAppSpec, writeSpec } from "../support/services.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = temporaryDirectory("any");

/** A spec whose application is this script. */
function specOf(name: string, script: string, lines = ""): string {
  const directory = join(place, name);
  mkdirSync(join(directory, "app"), { recursive: true });
  writeFileSync(join(directory, "app/main.mjs"), script);
  writeAppSpec(directory, name, `  node: ./app/main.mjs\n${lines}`);
  return directory;
}

interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `caisson up`; `until` interrupts it when it matches what was said. */
async function up(directory: string, args: string[], until?: RegExp): Promise<Run> {
  const child = spawn(join(repository, "caisson"), ["up", directory, "--vcpus", "1", ...args], {
    cwd: repository,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (said: string) => {
    stderr += said;
    if (!child.killed && until?.test(stderr)) child.kill("SIGINT");
  });
  const status = new Promise<number | null>((resolve) => {
    child.once("close", resolve);
  });
  return { stdout: await text(child.stdout), status: await status, stderr };
}

test("an application that serves nothing is verified and runs until it is told to end", async () => {
  const directory = specOf(
    "worker",
    "console.log('working'); setInterval(() => {}, 1000); process.on('SIGTERM', () => process.exit(0));",
  );
  const { status, stdout, stderr } = await up(directory, ["--json"], /worker runs/);
  equal(status, 0, stderr);
  match(stderr, /app: working/);
  const { verification, app } = JSON.parse(stdout) as { verification: { verdict: string }; app: object };
  equal(verification.verdict, "accepted");
  deepEqual(app, {});
  const image = imageDirectory(await readSpec(directory), "development");
  match(readFileSync(join(`${image}.state`, "console.log"), "utf8"), /the host pressed the power button/);
});

test("a job that ends with 0 is a success, although its port was never used", async () => {
  const directory = specOf("job", "console.log('done')", "  port: 8080\n");
  const { status, stderr } = await up(directory, []);
  equal(status, 0, stderr);
  match(stderr, /evidence accepted/);
  match(stderr, /the application ended with status 0/);
});

test("a job that ends with another status is a failure that names it", async () => {
  const { status, stderr } = await up(specOf("failing", "process.exit(3)"), []);
  equal(status, 10, stderr);
  match(stderr, /failing ended with status 3 {3}\[up\/application\]/);
});

test("death by the memory limit says so", async () => {
  const script = "const kept = []; setInterval(() => kept.push(Buffer.alloc(8 << 20, 1)), 1);";
  const { status, stderr } = await up(specOf("greedy", script, "  memory: 96MiB\n"), []);
  equal(status, 10, stderr);
  match(
    stderr,
    /greedy ended with status 137: it exceeded its memory limit of 96 MiB {3}\[up\/application\]/,
  );
  match(stderr, /killed by +SIGKILL/);
});

test("a service that never gets healthy ends the boot when another needs it, and both are named", async () => {
  const directory = join(place, "sick");
  mkdirSync(join(directory, "app"), { recursive: true });
  writeFileSync(join(directory, "app/main.mjs"), "setInterval(() => {}, 1000);");
  const service = "    x-caisson: { node: ./app/main.mjs }\n";
  const check = '{ test: ["CMD", "node", "-e", "process.exit(1)"], interval: 1s, retries: 2 }';
  const waiting = "    depends_on: { sick: { condition: service_healthy } }\n";
  const compose = `services:\n  sick:\n${service}    healthcheck: ${check}\n  waiting:\n${service}${waiting}`;
  writeSpec(directory, "sick", compose);
  const { status, stderr } = await up(directory, []);
  equal(status, 10, stderr);
  match(stderr, /waiting needs sick to be healthy: sick is unhealthy: 2 checks failed/);
  match(stderr, /app\/dependency/);
});

test("a limit above the machine's memory is refused before the boot", async () => {
  const directory = specOf("large", "setInterval(() => {}, 1000)", "  memory: 2GiB\n");
  const { status, stderr } = await up(directory, []);
  equal(status, 2, stderr);
  match(stderr, /large may use 2048 MiB of memory, and the machine has 1024 MiB/);
  match(stderr, /--memory 2560/);
  ok(!stderr.includes("firmware, kernel"), "nothing was started");
});
