// SPDX-License-Identifier: Apache-2.0
/**
 * The walk of a stranger, as far as no machine has to boot: each test is a row of it, with the command that was typed.
 * What is expected is what the row asked for.
 */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { cpSync, existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import { imageOf } from "../support/image.ts";
import { hello, repository, stranger } from "./walk.ts";

const { at, put, service, caisson } = stranger();
const policy = put("policy.yaml", "version: caisson/policy/v1\n");
let production = "";
let development = "";
before(async () => {
  // Of its own: what `instance` writes lies beside it.
  production = at("image");
  cpSync((await imageOf("production")).directory, production, { recursive: true });
  development = (await imageOf("development")).directory;
});

const listen = async (server: Server | ReturnType<typeof createTcpServer>): Promise<string> => {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
};

test("A0: caisson works through a link in PATH, from any directory, and says its version", async () => {
  symlinkSync(join(repository, "caisson"), at("caisson"));
  const { status, stdout } = await caisson("--version");
  equal(status, 0);
  match(stdout, /^caisson \d+\.\d+\.\d+\nsources {2}[0-9a-f]{64}\n/);
});

test("A2.1: app.node without ./ is told what to write", async () => {
  put("plain/caisson.yaml", "version: 1\nname: plain\napp:\n  node: src/index.js\n");
  const { status, stderr } = await caisson("check", "plain");
  equal(status, 30);
  match(stderr, /line 4, column 9: 'app\.node': write \.\/src\/index\.js/);
});

test("A2.3: a lock like another's needs no mirror, and no new kernel", async () => {
  const directory = service("like", "setInterval(() => {}, 1000);\n");
  const { status, stdout } = await caisson("lock", directory, "--like", hello, "--json");
  equal(status, 0);
  const { compile } = JSON.parse(stdout) as { compile: string[] };
  deepEqual(compile, [], "both kernels of the example are in the cache");
});

test("A4: every mistake of a file is said at once, in words", async () => {
  put(
    "bad/caisson.yaml",
    "version: 1\nname: Notes App\napp:\n  nod: x\n  port: 99999\n  environment: { FOO: 1 }\n",
  );
  const { status, stderr } = await caisson("check", "bad");
  equal(status, 30);
  for (const said of [/no key 'nod'/, /'name': 1 to 63/, /'app\.port': at most 65535/, /FOO.*in quotes/]) {
    match(stderr, said);
  }
  doesNotMatch(stderr, /Invalid input|Too big/);
});

test("A4: a JavaScript file that is not there is said before anything is fetched or built", async () => {
  const directory = service("missing", "", "");
  put(
    "missing/caisson.yaml",
    readFileSync(join(directory, "caisson.yaml"), "utf8").replace("./server", "./absent"),
  );
  const { status, stderr } = await caisson("up", directory, "--once");
  equal(status, 30);
  match(stderr, /^caisson up: .*absent\.mjs is not a file/);
});

test("A4: a mirror that is down is not now, and not an error of ours", async () => {
  const directory = service("mirror", "\n");
  const { status, stderr } = await caisson("lock", directory, "--mirror", "http://127.0.0.1:9/debian");
  equal(status, 75, stderr);
});

test("A4: a place that cannot be written, or has something else, is named", async () => {
  equal((await caisson("build", hello, "--out", "/proc/foo")).status, 2);
  put("occupied/file", "mine");
  const { status, stderr } = await caisson("build", hello, "--out", at("occupied"));
  equal(status, 2);
  match(stderr, /is there already/);
  equal(readFileSync(at("occupied/file"), "utf8"), "mine");
});

test("A4: a port that is taken is said before the build", async () => {
  const server = createTcpServer();
  const port = new URL(await listen(server)).port;
  const { status, stderr } = await caisson("up", hello, "--port", port);
  server.close();
  equal(status, 75);
  match(stderr, new RegExp(`^caisson up: port ${port} of 127.0.0.1 cannot be used: it is taken`));
});

test("A4: one syntax for memory, one default", async () => {
  for (const command of [
    ["up", hello],
    ["measure", production],
    ["instance", production],
  ]) {
    const { status, stderr } = await caisson(...command, "--memory", "lots");
    equal(status, 2);
    match(stderr, /such as 2048M or 2G/);
  }
  const { status, stdout } = await caisson("measure", production, "--json");
  equal(status, 0);
  equal((JSON.parse(stdout) as { machine: { memory: number } }).machine.memory, 2 ** 30);
});

test("A3: what an outsider lacks is said, and nothing of ours leaks", async () => {
  equal((await caisson("verify", "--from", "http://127.0.0.1:9/")).status, 2);
  cpSync(join(development, "manifest.json"), put("copy/manifest.json", ""));
  const { status, stderr } = await caisson("verify", "--from", "http://127.0.0.1:9/", "--image", at("copy"));
  equal(status, 2);
  match(stderr, /--kit DIR \(caisson publish\)/);
  doesNotMatch(stderr, /ENOENT/);
});

test("A3: down, elsewhere, silent about evidence and malformed are four answers", async () => {
  const from = (url: string) => caisson("verify", "--from", url, "--policy", policy);
  const answers = async (handler: Parameters<typeof createServer>[1]) => {
    const server = createServer(handler!);
    const said = await from(await listen(server));
    server.closeAllConnections();
    server.close();
    return said;
  };
  const closed = createTcpServer();
  const nobody = await listen(closed);
  closed.close();
  equal((await from(nobody)).status, 75);
  equal((await from("http://127.0.0.1:1/")).status, 2, "a port that browsers block");
  match((await from("127.0.0.1:9")).stderr, /did you mean http:\/\/127\.0\.0\.1:9\/\?/);
  equal((await answers((_, response) => response.destroy())).status, 75);
  const missing = await answers((_, response) => void response.writeHead(404).end());
  equal(missing.status, 30);
  match(missing.stderr, /GET \/\.well-known\/caisson\/evidence answers 404/);
  equal((await answers((_, response) => void response.end("hello"))).status, 20);
  const moved = await answers((_, response) => void response.writeHead(302, { location: "/" }).end());
  equal(moved.status, 30);
  match(moved.stderr, /redirect/);
  equal((await caisson("audit", "--live", nobody)).status, 75);
});

test("A5: --platform tdx says what the host lacks, and prints both ways to start the machine", async () => {
  const { status, stdout } = await caisson("instance", production);
  equal(status, 0);
  match(stdout, /qemu-system-x86_64 \\\n/);
  match(stdout, /virsh create .*domain\.xml/);
  match(stdout, /<launchSecurity type='tdx'>/);
});

test("A5: what measure says of a production image agrees with its manifest", async () => {
  const { stdout } = await caisson("measure", production, "--json");
  const { registers } = JSON.parse(stdout) as { registers: Record<string, { value?: string }> };
  const { measurements } = JSON.parse(readFileSync(join(production, "manifest.json"), "utf8")) as {
    measurements: { tdx: object };
  };
  ok(JSON.stringify(measurements.tdx).includes(registers["rtmr1"]!.value!), "RTMR1");
});

test("B1: manifest and bill of materials name Caisson's sources, licences and the toolchain", async () => {
  const { stdout } = await caisson("--version", "--json");
  const { sources } = JSON.parse(stdout) as { sources: string };
  const manifest = JSON.parse(readFileSync(join(production, "manifest.json"), "utf8"));
  equal(manifest.caisson.sources, sources);
  const bom = JSON.parse(readFileSync(join(production, "sbom.cdx.json"), "utf8"));
  match(bom.serialNumber, /^urn:uuid:/);
  ok(JSON.stringify(bom.formulation).includes('"gcc"'));
  const unlicensed = bom.components.filter(
    ({ type, licenses }: { type: string; licenses?: object[] }) =>
      type === "library" && licenses === undefined,
  );
  deepEqual(unlicensed, []);
});

test("B4: the audit begins with its verdict, and says what, when, by what and how", async () => {
  const files = { html: at("audit.html"), sarif: at("audit.sarif") };
  const { status, stdout } = await caisson("audit", production, "--html", files.html, "--sarif", files.sarif);
  equal(status, 0, stdout.slice(0, 300));
  match(
    stdout,
    /^HOLDS .*\n {2}at .*\n {2}by +caisson .*\n {2}command +caisson audit .*\n {2}subject .*\n {2}manifest +[0-9a-f]{64}\n/,
  );
  match(readFileSync(files.html, "utf8"), /<p class="verdict pass">HOLDS/);
  const [run] = (JSON.parse(readFileSync(files.sarif, "utf8")) as { runs: Record<string, object>[] }).runs;
  match(JSON.stringify(run!["properties"]), /HOLDS/);
  ok(existsSync(files.sarif));
});

test("B4: a baseline that is wrong is told its whole form; a control, its documents", async () => {
  const { status, stderr } = await caisson(
    "audit",
    production,
    "--baseline",
    put("base.yaml", "entries: []\n"),
  );
  equal(status, 30);
  match(stderr, /caisson\/audit-baseline\/v1/);
  const { stdout } = await caisson("audit", "--explain", "F01");
  match(stdout, /document +docs\/decisions\/0002-tdvf\.md/);
});

test("B5: --json on everything: one document, for lists, explanations and failures too", async () => {
  for (const args of [
    ["audit", "--list"],
    ["audit", "--explain", "F04"],
    ["verify", "nowhere"],
    ["check", "nowhere"],
    ["lock", "nowhere"],
  ]) {
    const { stdout } = await caisson(...args, "--json");
    equal(typeof JSON.parse(stdout), "object", args.join(" "));
  }
});

test("B5: a file that is not there is the same mistake in every command", async () => {
  for (const args of [
    ["verify", "nowhere"],
    ["measure", "nowhere"],
    ["lock", "nowhere"],
    ["up", "nowhere"],
    ["publish", "nowhere"],
    ["inspect", "nowhere"],
  ]) {
    equal((await caisson(...args)).status, 2, args.join(" "));
  }
});

test("T: a mistyped command or option gets a suggestion", async () => {
  match((await caisson("verfy")).stderr, /did you mean 'verify'\?/);
  match((await caisson("verify", "--polcy", "x")).stderr, /Did you mean --policy\?/);
});

test("T: no help is wider than 80 columns", async () => {
  const { stdout } = await caisson("--help");
  const commands = [...stdout.matchAll(/^ {2}([a-z]+) {2}/gm)].map(([, name]) => name!);
  ok(commands.length > 20);
  for (const name of [[], ...commands.map((command) => [command])]) {
    const wide = (await caisson(...name, "--help")).stdout.split("\n").filter((line) => line.length > 80);
    deepEqual(wide, [], name.join());
  }
  writeFileSync(at("done"), "");
});
