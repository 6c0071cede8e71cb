// SPDX-License-Identifier: Apache-2.0
/** `caisson verify` as a user runs it: files in, exit code and one document out. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { mintNitro, nitroHierarchy } from "@caisson/simulated/aws-pki";
import type { Report } from "@caisson/verify";
import { buildSnp } from "@caisson/verify/testing/snp-refusals";
import { toHex } from "@caisson/vocabulary/bytes";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { acceptableEvidence } from "../support/acceptable-evidence.ts";

const repository = new URL("../../", import.meta.url).pathname;
const folder = temporaryDirectory("verify");

const file = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const verify = (...args: string[]) =>
  spawnSync(process.execPath, [`${repository}packages/cli/src/main.ts`, "verify", ...args], {
    encoding: "utf8",
  });

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const minted = await acceptableEvidence();
const { at, nonce, quote, collateral } = minted;
const evidence = file("evidence.json", JSON.stringify(minted.document));
const manifest = file("manifest.json", JSON.stringify(minted.manifest));
const policy = file("policy.yaml", minted.policy);
const production = file("production.yaml", "version: caisson/policy/v1\n");
const all = ["--policy", policy, "--image", manifest, "--nonce", toHex(nonce), "--at", at];

test("accepted evidence: exit code 0, a report on stdout", () => {
  const run = verify(evidence, ...all, "--json");
  equal(run.stderr, "");
  equal(run.status, 0);
  const report = JSON.parse(run.stdout) as Report;
  deepEqual([report.verdict, report.scope, report.codes], ["accepted", "genuine-and-acceptable", []]);
});

test("the same for a person: the verdict, and what was left open", () => {
  const run = verify(evidence, ...all);
  match(run.stdout, /^EMULATED .*\nACCEPTED/);
  match(run.stdout, /open {2}app\/id/);
});

test("another nonce: exit code 10 and its code", () => {
  const run = verify(
    evidence,
    "--policy",
    policy,
    "--image",
    manifest,
    "--nonce",
    "00",
    "--at",
    at,
    "--json",
  );
  equal(run.status, 10);
  deepEqual((JSON.parse(run.stdout) as Report).codes, ["report-data/nonce"]);
});

test("development evidence under a production policy: exit code 10, refused by name", () => {
  const run = verify(evidence, "--policy", production, "--image", manifest, "--at", at, "--json");
  equal(run.status, 10);
  deepEqual((JSON.parse(run.stdout) as Report).codes, ["policy/platform"]);
});

test("a quote alone, without a policy: the genuine question, and it says so", () => {
  const raw = file("quote.bin", quote);
  const documents = file("collateral.json", JSON.stringify(collateral));
  const run = verify(raw, "--collateral", documents, "--at", at);
  equal(run.status, 10); // Intel did not sign this one
  match(run.stdout, /^NOT GENUINE {3}is the quote genuine\? \(that is all/);
  match(run.stdout, /chain\/untrusted-root/);
});

/**
 * The quote with its platform's certificates called something else (certification data type 1): nothing in it leads to
 * a root.
 */
const withoutChain = Buffer.from(quote);
withoutChain.writeUInt16LE(1, withoutChain.indexOf("-----BEGIN CERTIFICATE") - 6);

test("a quote without collateral: nobody can tell, exit code 20, and its fields are shown", () => {
  const run = verify(file("alone.bin", withoutChain), "--at", at);
  equal(run.status, 20, run.stderr);
  match(
    run.stdout,
    /^CANNOT TELL {3}is the quote genuine\?.*what runs in the TD\)\n.*not all that vouches for it is at hand\n.*asks Intel/,
  );
  match(run.stdout, /because collateral\/missing\n {2}16 checks, 0 left open, /);
  match(run.stdout, /\n {2}MRTD +[0-9a-f]{96}\n/);
  const { verdict, quote: fields } = JSON.parse(
    verify(file("alone.bin", withoutChain), "--at", at, "--json").stdout,
  );
  deepEqual([verdict, fields.groups.quote.TEE], ["undetermined", "TDX"]);
});

test("what is certain wins: certificates that Intel did not sign, and what a policy refuses, whatever collateral is missing", () => {
  const foreign = verify(file("foreign.bin", quote), "--at", at, "--json");
  equal(foreign.status, 10);
  deepEqual((JSON.parse(foreign.stdout) as Report).codes, ["collateral/missing", "chain/untrusted-root"]);
  const enclaves = file(
    "enclaves.yaml",
    `version: caisson/policy/v1\nsgx: { mrEnclave: ["${"00".repeat(32)}"] }\nfreshness: any\n`,
  );
  const refused = verify(file("alone.bin", withoutChain), "--at", at, "--policy", enclaves, "--json");
  equal(refused.status, 10, refused.stderr);
  deepEqual((JSON.parse(refused.stdout) as Report).codes, ["collateral/missing", "policy/tee"]);
});

test("tcb and policy from: what says nothing of the evidence is not a no", () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [`${repository}packages/cli/src/main.ts`, ...args], { encoding: "utf8" });
  const missing = run("tcb", file("tcb.bin", quote), "--at", at);
  deepEqual([missing.status, missing.stdout], [20, ""]);
  match(missing.stderr, /no collateral.*\[collateral\/missing\]\n {2}try {2}--collateral fetch/);
  const report = buildSnp({});
  const alone = file(
    "snp.json",
    JSON.stringify({
      version: "caisson/evidence/v1",
      platform: "snp",
      report: Buffer.from(report.report).toString("base64"),
    }),
  );
  const parts = { version: "caisson/amd-collateral/v1", endorsement: "", chain: "", crl: "" };
  const broken = file("amd.json", JSON.stringify(parts));
  for (const args of [
    ["policy", "from", alone],
    ["verify", alone],
  ]) {
    const { status, stderr } = run(...args, "--collateral", broken);
    equal(status, 20, args.join(" "));
    match(stderr, /\[collateral\/malformed\]/);
  }
  const levels = run("tcb", alone, "--at", at, "--json");
  deepEqual([levels.status, JSON.parse(levels.stdout).sets[0].accepted], [0, true]);
});

test("evidence from standard input, which somebody else left so that reads do not wait, and that comes late", async () => {
  // Looking at process.stdin is what makes a pipe so, for every process that has it.
  const parent = `process.stdin; require("node:child_process").spawnSync(process.execPath, ${JSON.stringify([
    `${repository}packages/cli/src/main.ts`,
    "inspect",
    "-",
  ])}, { stdio: "inherit" })`;
  const child = spawn(process.execPath, ["-e", parent], { stdio: ["pipe", "pipe", "pipe"] });
  const [out, err] = [text(child.stdout), text(child.stderr)];
  const half = quote.length >> 1;
  setTimeout(() => child.stdin.write(quote.subarray(0, half)), 2000);
  setTimeout(() => child.stdin.end(quote.subarray(half)), 3000);
  await once(child, "close");
  equal(await err, "");
  match(await out, /\n {2}MRTD +[0-9a-f]{96}\n/);
});

test("every vendor's evidence is called what its vendor calls it", () => {
  const snp = verify(file("report.bin", buildSnp({}).report), "--at", at).stdout;
  match(snp, /^CANNOT TELL {3}is the report genuine\?.*what runs in the guest\)\n.*\n.*asks AMD/);
  match(snp, /source +AMD 57230/);
  doesNotMatch(snp, /quote|\bTD\b|Intel/);
  const nitro = (kind: "enclave" | "tpm") =>
    verify(file(`${kind}.cbor`, mintNitro(nitroHierarchy(times, kind)).document), "--at", at).stdout;
  match(nitro("enclave"), /^NOT GENUINE {3}is the attestation document genuine\?.*in the enclave\)\n/);
  match(nitro("tpm"), /^NOT GENUINE {3}is the attestation document genuine\?.*in the instance\)\n/);
  for (const kind of ["enclave", "tpm"] as const) doesNotMatch(nitro(kind), /quote|\bTD\b|Intel|AMD/);
});

test("--save keeps what a running application answered, and says what it binds, though it is refused", async () => {
  let asked = "";
  const server = createServer((request, response) => {
    asked = new URL(request.url!, "http://localhost").searchParams.get("nonce")!;
    response.end(readFileSync(evidence));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const saved = join(folder, "saved.json");
  const from = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const options = ["--from", from, "--save", saved, "--policy", policy, "--image", manifest];
  const run = spawn(process.execPath, [`${repository}packages/cli/src/main.ts`, "verify", ...options], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [said, [status]] = await Promise.all([text(run.stderr), once(run, "close")]);
  server.close();
  equal(status, 10);
  equal(readFileSync(saved, "utf8"), readFileSync(evidence, "utf8"));
  match(said, new RegExp(`saved .*saved\\.json; it binds --nonce ${asked}`));
  equal(verify(saved, ...all).status, 0);
});

for (const bind of ["key", "session"] as const) {
  test(`--save keeps what an https address answered, with what it binds (${bind}), and it is judged again`, async (t) => {
    const platform = testPlatform();
    const guest = await testGuest(platform, (_, response) => void response.end());
    t.after(() => guest.close());
    const saved = join(folder, `channel-${bind}.json`);
    const judgedBy = ["--policy", file("channel.json", JSON.stringify(platform.written)), "--json"];
    const options = ["--from", guest.url, "--bind", bind, "--save", saved, ...judgedBy];
    const run = spawn(process.execPath, [`${repository}packages/cli/src/main.ts`, "verify", ...options], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [out, said] = await Promise.all([text(run.stdout), text(run.stderr), once(run, "close")]);
    const entry = /it binds --nonce ([0-9a-f]+)/.exec(said)?.[1];
    // Its root is a test's: the command trusts Intel alone. What is about the channel passes over it.
    const passed = (report: string) =>
      (JSON.parse(report) as Report).checks.flatMap(({ id, outcome }) => (outcome === "pass" ? id : []));
    ok(passed(out).includes("channel/tls"), out + said);
    equal(bind === "session", passed(out).includes("channel/session-binding"));
    equal(
      (JSON.parse(readFileSync(saved, "utf8")) as { version: string }).version,
      "caisson/channel-evidence/v1",
    );
    const again = verify(saved, ...judgedBy, "--nonce", entry!);
    equal(again.status, run.exitCode, again.stderr);
    ok(
      passed(again.stdout).includes("channel/nonce") && !passed(again.stdout).includes("channel/tls"),
      again.stdout,
    );
    const other = verify(saved, ...judgedBy, "--nonce", "00".repeat(32));
    ok((JSON.parse(other.stdout) as Report).codes.includes("channel/nonce-path"), other.stdout);
    match(verify(saved).stdout, /MRTD/);
  });
}

const faults: [name: string, status: number, args: () => string[]][] = [
  ["evidence that is not evidence", 20, () => [file("noise", "hello"), "--at", at]],
  ["JSON in a form that is not known", 20, () => [file("empty.json", "{}"), "--at", at]],
  [
    "evidence that is not a valid document",
    30,
    () => [file("bare.json", '{"version":"caisson/evidence/v1"}'), "--at", at],
  ],
  [
    "a policy with an unknown field",
    30,
    () => [evidence, "--policy", file("p1.yaml", "version: caisson/policy/v1\nextra: 1\n")],
  ],
  [
    "a policy with a key twice",
    30,
    () => [evidence, "--policy", file("p2.yaml", "version: caisson/policy/v1\nversion: caisson/policy/v1\n")],
  ],
  [
    "a policy with aliases",
    30,
    () => [evidence, "--policy", file("p3.yaml", "version: &v caisson/policy/v1\ndescription: *v\n")],
  ],
  ["a manifest without registers", 30, () => [evidence, "--policy", policy, "--image", file("m.json", "{}")]],
  ["collateral that is not data", 30, () => [file("q.bin", quote), "--collateral", file("c.json", "{")]],
  ["a file that is not there", 2, () => [join(folder, "missing")]],
  ["a time that is none", 2, () => [evidence, "--policy", policy, "--at", "yesterday"]],
  ["a nonce that is not hexadecimal", 2, () => [evidence, "--policy", policy, "--nonce", "xyz"]],
  ["an image without a policy", 2, () => [file("q2.bin", quote), "--image", manifest]],
];
for (const [name, status, args] of faults) {
  test(`${name}: exit code ${status}`, () => {
    const run = verify(...args());
    equal(run.status, status, run.stderr);
    equal(run.stdout, "");
    match(run.stderr, /^caisson verify: .+\[[a-z-]+\/[a-z-]+\]/);
  });
}
