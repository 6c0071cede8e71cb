// SPDX-License-Identifier: Apache-2.0
/** What the commands of a KMS say to whoever gives them something wrong, and that they change nothing then. */
import { deepEqual, equal, match } from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { OwnerCommands } from "../support/owner-commands.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-kms-commands-"));
const at = (name: string) => join(place, name);
const commands = new OwnerCommands(place, 60_000);
after(() => rmSync(place, { recursive: true, force: true }));

const [app, zero] = ["00".repeat(20), "00".repeat(32)];
const under = "--passphrase-file pass";
let identity = "";
/** Keepers' keys. */
let [ada, bob] = ["", ""];

before(async () => {
  identity = await commands.run("kms init --data kms");
  [ada, bob] = (await Promise.all(
    ["ada", "bob"].map((name) => commands.run(`kms shares key ${name} ${under}`)),
  )) as [string, string];
  await commands.run(
    `kms shares make --data kms --threshold 2 --keeper ada=${ada} bob=${bob} --output shares`,
  );
  await commands.run(`owner new operator ${under}`);
  for (const name of ["directory", "torn", "piped"]) mkdirSync(at(name));
  // As a crash leaves it that came before the key was written.
  writeFileSync(at("torn/recovery-key"), "", { mode: 0o600 });
  execFileSync("mkfifo", [at("piped/root-secret")]);
  writeFileSync(at("empty"), "");
  writeFileSync(at("object"), "{}");
  await commands.run(`kms request policy-set object --app ${app} --kms ${identity} --output request`);
});

/** `said` in what a command writes that ends with this status. */
const mistakes: { line: () => string; status: number; said: RegExp }[] = [
  { line: () => "kms identity --data piped", status: 30, said: /root-secret\/permissions/ },
  { line: () => "kms serve --data kms --own-app zz", status: 2, said: /--own-app.*40 or 64 hex digits/ },
  { line: () => "kms serve --data kms --peer nonsense", status: 2, said: /--peer.*expected http/ },
  { line: () => "kms serve --data kms --operators object", status: 30, said: /object: keys: this field/ },
  { line: () => "kms serve --data kms --log-policy object", status: 2, said: /--log-policy.*\n.*--log URL/ },
  {
    line: () => "kms serve --data kms --collateral-update early",
    status: 2,
    said: /--collateral-source pcs/,
  },
  { line: () => "kms log verify directory", status: 2, said: /there is no file directory/ },
  { line: () => "kms volume restored --data nowhere", status: 30, said: /root-secret\/missing/ },
  { line: () => make("abc", "new", ada), status: 2, said: /--threshold.*whole number from 2 to 255/ },
  {
    line: () => make("2", "new", zero),
    status: 30,
    said: /key of ada is not a usable X25519 key.*shares\/malformed/,
  },
  { line: () => make("2", "object", ada), status: 2, said: /object is there already/ },
  { line: () => make("2", "nowhere/new", ada), status: 2, said: /cannot be written/ },
  { line: () => sealTo(zero), status: 30, said: /not a usable X25519 key.*shares\/malformed/ },
  { line: () => "kms shares recover shares --data kms", status: 30, said: /root-secret\/exists/ },
  {
    line: () => "kms shares recover shares --data torn",
    status: 30,
    said: /has 0 bytes, not 32.*\n.*remove it/,
  },
  {
    line: () => ask(`policy-set empty --app ${app}`),
    status: 2,
    said: /request's policy: expected a policy file/,
  },
  { line: () => ask("operators-set operator --threshold 0"), status: 2, said: /--threshold.*from 1 to 64/ },
  {
    line: () => `kms request sign directory --key operator ${under} --output new`,
    status: 2,
    said: /directory cannot be read/,
  },
];
const make = (threshold: string, output: string, key: string) =>
  `kms shares make --data kms --threshold ${threshold} --keeper ada=${key} bob=${bob} --output ${output}`;
const sealTo = (key: string) =>
  `kms shares seal shares --keeper ada --key ada ${under} --to ${key} --output new`;
const ask = (what: string) => `kms request ${what} --kms ${identity} --output new`;

test("what is wrong is said, with the exit code that fits, and nothing changes", async () => {
  const whole = await commands.run("kms log verify kms/release-log.sqlite");
  const files = new Set(readdirSync(place, { recursive: true }).map(String));
  const rest = mistakes.values();
  const one = async () => {
    for (const { line, status, said } of rest) {
      match(await commands.refused(status, "", line()), said, line());
    }
  };
  await Promise.all([one(), one()]);
  equal(await commands.run("kms log verify kms/release-log.sqlite"), whole);
  deepEqual(new Set(readdirSync(place, { recursive: true }).map(String)), files);
  equal(readFileSync(at("torn/recovery-key"), "utf8"), "");
});

/** What answers at an address that is not a KMS's, and what `kms request send` makes of it. */
const strangers: { name: string; status: number; body: string; code: string; exit: number }[] = [
  { name: "a page", status: 200, body: "<html>", code: "kms/refused", exit: 10 },
  { name: "other JSON", status: 200, body: "{}", code: "kms/refused", exit: 10 },
  { name: "null", status: 200, body: "null", code: "kms/refused", exit: 10 },
  { name: "an error without words", status: 500, body: "oops", code: "kms/refused", exit: 10 },
  {
    name: "more than an answer has",
    status: 200,
    body: "x".repeat(5 << 20),
    code: "kms/unreachable",
    exit: 75,
  },
];
test("a request that something else took than a KMS was not taken", async (t) => {
  for (const { name, status, body, code, exit } of strangers) {
    const server = createServer((_, response) => response.writeHead(status).end(body)).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    match(await commands.refused(exit, code, `kms request send request http://127.0.0.1:${port}`), /./, name);
  }
});

test("who signs a request sees all that it asks for", async () => {
  writeFileSync(at("policy"), "# a comment\r  root: 2\nkeyVersion: 1\n");
  await commands.run(`kms request policy-set policy --app ${app} --kms ${identity} --output asked`);
  const sign = `kms request sign asked --key operator ${under} --output signed`;
  const shown = (await commands.run(sign)).split("\n");
  deepEqual(
    shown.filter((line) => !line.startsWith("expires: ")),
    [
      "version: caisson/kms-request/v1",
      `kms: ${identity}`,
      "replaces: 0",
      "action: policy/set",
      `app: ${app}`,
      "policy:",
      '  | "# a comment\\r  root: 2"',
      "  | keyVersion: 1",
      "signed",
    ],
  );
});

test("an operator's key signs nothing but requests to a KMS", async () => {
  const { payload, ...envelope } = JSON.parse(readFileSync(at("request"), "utf8")) as Record<string, string>;
  const other = { ...envelope, payload, payloadType: "application/vnd.in-toto+json" };
  writeFileSync(at("other"), JSON.stringify(other));
  writeFileSync(at("no-request"), JSON.stringify({ ...envelope, payload: btoa("{}") }));
  for (const file of ["other", "no-request"]) {
    const line = `kms request sign ${file} --key operator ${under} --output signed-${file}`;
    match(await commands.refused(2, "cli/usage", line), new RegExp(`${file} holds no request`));
  }
});

test("an image of a KMS is not made of files that say nothing, or that nobody would read", () => {
  const program = new URL("../../examples/kms/make.ts", import.meta.url).pathname;
  const made = (files: string) =>
    spawnSync(process.execPath, [program, at(files), at("made")], { encoding: "utf8", timeout: 60_000 });
  mkdirSync(at("mistyped"));
  writeFileSync(at("mistyped/operator.json"), "{}");
  for (const [files, said] of [
    ["nowhere", /no such file/],
    ["directory", /directory is empty: it holds operators\.json/],
    ["mistyped", /has operator\.json, which a KMS does not read/],
  ] as const) {
    const { status, stderr } = made(files);
    equal(status, 2, stderr);
    match(stderr, said);
  }
  equal(existsSync(at("made")), false);
});
