// SPDX-License-Identifier: Apache-2.0
/**
 * The walk of a stranger where a machine has to boot: each test is a row of it, with the command that was typed. Rows
 * without a machine are in `test/walk`.
 */
import { equal, match } from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { hello, repository, stranger } from "../walk/walk.ts";

const { at, put, service, caisson } = stranger();
const limitMs = 300_000;
const accepted = /evidence accepted: \d+ checks passed/;
const running = /Ctrl-C ends it/;
const http = (answer: string): string =>
  `import { createServer } from "node:http";\ncreateServer((_, response) => { ${answer} }).listen(8080);\n`;
const tcp = (answer: string): string =>
  `import { createServer } from "node:net";\ncreateServer((socket) => { ${answer} }).listen(8080);\n`;

/** Starts `caisson up` and resolves once it has said `until`, or has ended. */
async function up(t: TestContext, directory: string, until: RegExp) {
  const child = spawn(join(repository, "caisson"), ["up", directory], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  let said = "";
  const ended = new Promise<number | null>((resolve) => void child.once("close", resolve));
  t.after(() => {
    child.kill("SIGINT");
    return ended;
  });
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`never said ${until}: ${said}`)), limitMs);
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (until.test(said)) resolve();
    });
    void ended.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
  return { said: () => said, ended, interrupt: () => child.kill("SIGINT") };
}

for (const [name, what, script] of [
  ["ok", "answers 200 to everything", http('response.end("ok")')],
  ["lost", "knows no path", http("response.writeHead(404).end()")],
  ["closing", "closes every connection", tcp("socket.destroy()")],
  ["silent", "never answers", tcp("")],
] as const) {
  test(`A2.4: a service that ${what} is verified all the same, and runs until Ctrl-C`, async (t) => {
    const machine = await up(t, service(name, script, "  port: 8080\n"), running);
    match(machine.said(), accepted);
    machine.interrupt();
    equal(await machine.ended, 0, machine.said());
  });
}

test("A2.5: a package beside the spec that the script below it imports is named before the boot", async (t) => {
  const directory = service("layout", "");
  put("layout/src/index.mjs", 'import { greeting } from "greeting";\nconsole.log(greeting);\n');
  put(
    "layout/node_modules/greeting/package.json",
    '{ "name": "greeting", "type": "module", "main": "a.js" }\n',
  );
  put("layout/node_modules/greeting/a.js", 'export const greeting = "hello from a package";\n');
  const spec = readFileSync(join(directory, "caisson.yaml"), "utf8");
  put("layout/caisson.yaml", spec.replace("./server.mjs", "./src/index.mjs"));
  const machine = await up(t, directory, running);
  match(
    machine.said(),
    /node_modules\/greeting is imported, and stays outside of the image: name an entry beside/,
  );
  equal(await machine.ended, 10, machine.said());
});

test("A2.7: /tmp counts as memory, and an end by the limit says so", async (t) => {
  const script =
    'import { appendFileSync } from "node:fs";\nsetInterval(() => appendFileSync("/tmp/file", Buffer.alloc(8 << 20)), 20);\n';
  const machine = await up(t, service("writer", script, "  memory: 96MiB\n"), /\[up\/application\]/);
  equal(await machine.ended, 10);
  match(machine.said(), /writer ended with status 137: it exceeded its memory limit of 96 MiB/);
  match(machine.said(), /try +a larger limit .*files in \/tmp/);
});

test("A2.8: an application that dies after it answered ends up with 10 and its status", async (t) => {
  const script = `${http('response.end("ok")')}setTimeout(() => process.exit(1), 20_000);\n`;
  const machine = await up(t, service("late", script, "  port: 8080\n"), running);
  match(machine.said(), accepted);
  equal(await machine.ended, 10);
  match(machine.said(), /late ended with status 1 {3}\[up\/application\]/);
});

test("A4: a port that nobody listens on is said, with the one that is used", async (t) => {
  const directory = service("wrong", http("").replace("8080", "3000"), "  port: 4000\n");
  const machine = await up(t, directory, running);
  match(machine.said(), /waiting for wrong on port 4000: it listens on 3000$/m);
  match(machine.said(), /nothing listens at http:.* \(is app\.port right\?\)/);
  machine.interrupt();
  equal(await machine.ended, 0, machine.said());
});

test("A3, B2: an outsider with a kit, without one, with another shape; and what a judgement stands on", async (t) => {
  const machine = await up(t, hello, running);
  const image = join(hello, "out/hello-development");
  const url = /answers at (http:\S+)/.exec(machine.said())![1]!;
  equal((await caisson("verify", "--from", url)).status, 2);

  const own = await caisson("verify", "--from", url, "--image", image);
  equal(own.status, 0, own.stderr);
  match(own.stdout, /^EMULATED/);
  match(
    own.stderr,
    /^judged by what caisson up, beside the image, wrote:\n {2}policy +\S+\.state\/policy\.json$/m,
  );

  equal((await caisson("publish", image, "--out", at("kit"))).status, 0);
  const outside = await caisson("verify", "--from", url, "--kit", at("kit"), "--save", at("evidence.json"));
  equal(outside.status, 0, outside.stderr);
  match(outside.stderr, /^judged by what the kit's publisher wrote:$/m);
  const nonce = /--nonce ([0-9a-f]{64})/.exec(outside.stderr)![1]!;
  equal((await caisson("verify", at("evidence.json"), "--kit", at("kit"), "--nonce", nonce)).status, 0);
  const replayed = await caisson(
    "verify",
    at("evidence.json"),
    "--kit",
    at("kit"),
    "--nonce",
    "00".repeat(32),
  );
  equal(replayed.status, 10);
  match(replayed.stdout, /report-data\/nonce/);

  const large = await caisson("measure", image, "--memory", "2G", "--json");
  const files = [
    "--policy",
    join(`${image}.state`, "policy.json"),
    "--image",
    put("large.json", large.stdout),
  ];
  const collateral = join(`${image}.state`, "collateral/simulated.json");
  const judged = [at("evidence.json"), ...files, "--collateral", collateral, "--nonce", nonce];
  const other = await caisson("verify", ...judged);
  equal(other.status, 10);
  match(other.stdout, /registers\/rtmr0/);
  match(other.stdout, /caisson measure/);

  const cause = await caisson("measure", image, "--memory", "2G", "--log", at("evidence.json"));
  equal(cause.status, 10);
  match(cause.stdout, /memory/);
  equal((await caisson("measure", image, "--log", at("evidence.json"))).status, 0);
  match((await caisson("inspect", at("evidence.json"))).stdout, /runtime events/);
  machine.interrupt();
  equal(await machine.ended, 0, machine.said());
});

test("B3: the same commit elsewhere builds the same bytes", async () => {
  const clone = at("clone");
  execFileSync("git", ["clone", "--quiet", "--no-hardlinks", repository, clone]);
  const { status, stderr } = await caisson("build", join(clone, "examples/hello"), "--out", at("theirs"));
  equal(status, 0, stderr);
  const here = await caisson("build", hello, "--out", at("ours"));
  equal(here.status, 0, here.stderr);
  equal(execFileSync("diff", ["-rq", at("ours"), at("theirs")], { encoding: "utf8" }), "");
});
