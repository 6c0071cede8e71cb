// SPDX-License-Identifier: Apache-2.0
/** The life of an application from the command line: owners, an identity, releases, a handover, a revocation. */
import { deepEqual, equal, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { exampleManifest } from "@caisson/image/testing/manifest";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

/** A directory for files, and `caisson` in it. */
function place(t: TestContext) {
  const directory = temporaryDirectory("releases", t);
  const caisson = (line: string, ...more: string[]) => {
    const args = [cli, ...line.split(" "), ...more];
    return spawnSync(process.execPath, args, { encoding: "utf8", timeout: 60_000, cwd: directory });
  };
  const done = (line: string, ...more: string[]): string => {
    const run = caisson(line, ...more);
    equal(run.status, 0, `${line}: ${run.stderr}`);
    return run.stdout;
  };
  const refused = (status: number, code: string, line: string) => {
    const run = caisson(line);
    equal(run.status, status, `${line}: ${run.stdout}${run.stderr}`);
    match(run.stderr, new RegExp(`\\[${code}\\]`));
  };
  writeFileSync(join(directory, "pass"), "correct horse battery\n");
  writeFileSync(join(directory, "other"), "wrong horse battery\n");
  const sign = (what: string, file: string, key: string) =>
    done(`${what} sign ${file} --key ${key} --passphrase-file pass`);
  return { directory, done, refused, sign };
}

test("two of three owners release an image, hand over, and a stop key takes it back", (t) => {
  const { directory, done, refused, sign } = place(t);
  const keys: Record<string, string> = {};
  for (const [name, type] of [
    ["a", "ed25519"],
    ["b", "p256"],
    ["c", "ed25519"],
    ["stop", "p256"],
  ] as const) {
    keys[name] = done(`owner new ${name} --type ${type} --passphrase-file pass`).trim();
    match(keys[name], new RegExp(`^${type}:[0-9a-f]+$`));
    equal(statSync(join(directory, name)).mode & 0o777, 0o600);
    equal(done(`owner show ${name}`).trim(), keys[name]);
  }
  refused(2, "cli/usage", "owner new a --passphrase-file pass");

  const id = done(
    `identity new --name app --owner a b ${keys.c} --threshold 2 --stop stop --output identity.json`,
  ).trim();
  match(id, /^[0-9a-f]{64}$/);
  match(done("identity show identity.json"), new RegExp(`application ${id}[^]*2 of 3\n +${keys.a}`));

  const manifest = JSON.stringify(exampleManifest());
  writeFileSync(join(directory, "manifest.json"), manifest);
  writeFileSync(join(directory, "other.json"), `${manifest}\n`);
  const whose = "--identity identity.json --image manifest.json";
  const said = done(`release prepare ${whose} --not-before 2026-06-01T00:00:00Z --days 10 --output one.json`);
  match(said, /^release 1 of/);
  equal(said.includes(`image        ${createHash("sha256").update(manifest).digest("hex")}`), true);
  const verify = `release verify one.json ${whose} --at 2026-06-02T00:00:00Z`;
  refused(10, "release/signature", verify);
  equal(sign("release", "one.json", "a"), `${said}signed by ${keys.a}\n`);
  equal(sign("release", "one.json", "a"), `${said}signed before by ${keys.a}\n`);
  refused(10, "release/signature", verify);
  refused(30, "owner/passphrase", "release sign one.json --key b --passphrase-file other");
  sign("release", "one.json", "b");
  equal(done(verify), `accepted: release 1 of application ${id}, until 2026-06-11T00:00:00Z\n`);
  equal((JSON.parse(done(`${verify} --json`)) as { release: number }).release, 1);
  refused(10, "release/subject", verify.replace("manifest.json", "other.json"));
  refused(10, "release/expired", verify.replace("06-02", "06-11"));
  refused(10, "release/below-minimum", `${verify} --minimum 2`);

  done(`identity rotate identity.json --owner b c --threshold 2 --output second.json`);
  refused(10, "identity/threshold", "identity show identity.json second.json");
  for (const key of ["a", "b", "c"]) sign("identity", "second.json", key);
  match(done("identity show identity.json second.json"), /generation 1/);
  refused(10, "release/generation", `${verify} --generation second.json`);
  const again = `${whose} --generation second.json`;
  done(`release prepare ${again} --after one.json --minimum 2 --output two.json`);
  for (const key of ["b", "c"]) sign("release", "two.json", key);
  match(done(`release verify two.json ${again}`), /accepted: release 2/);

  done(
    `release revoke --identity identity.json --reason broken --release 2 --release 1 --output revoked.json`,
  );
  refused(10, "release/signature", `release verify two.json ${again} --revocation revoked.json`);
  match(sign("release", "revoked.json", "stop"), /releases {5}1, 2\n/);
  refused(10, "release/revoked", `release verify two.json ${again} --revocation revoked.json`);
});

test("a key's file: what was changed does not open, and is not taken for another key", (t) => {
  const { directory, done, refused } = place(t);
  done("owner new key --passphrase-file pass");
  const file = JSON.parse(readFileSync(join(directory, "key"), "utf8")) as Record<string, string>;
  deepEqual(Object.keys(file).sort(), ["ciphertext", "key", "nonce", "salt", "type", "version"]);
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(exampleManifest()));
  done("identity new --name app --owner key --stop key --output identity.json");
  done("release prepare --identity identity.json --image manifest.json --output one.json");
  const flipped = (text: string) => (text.startsWith("0") ? "1" : "0") + text.slice(1);
  for (const [change, code] of [
    [{ ciphertext: flipped(file.ciphertext!) }, "owner/passphrase"],
    [{ key: flipped(file.key!) }, "owner/passphrase"],
    [{ type: "rsa" }, "owner/malformed"],
    [{ more: 1 }, "owner/malformed"],
  ] as const) {
    writeFileSync(join(directory, "changed"), JSON.stringify({ ...file, ...change }));
    refused(30, code, "release sign one.json --key changed --passphrase-file pass");
  }
});
