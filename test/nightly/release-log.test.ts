// SPDX-License-Identifier: Apache-2.0
/**
 * A transparency log from the command line: kept, witnessed, published to, followed. And against Tessera's own tools
 * (transparency-dev/tessera, the reference implementation of tlog-tiles in Go): its fsck over our files, our reader over a
 * log that it wrote.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash, generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { exampleManifest } from "@caisson/image/testing/manifest";
import { fetchLog, openLogDirectory } from "@caisson/log";
import {
  hashesOfTiles,
  inclusionProof,
  leafHash,
  readBundle,
  readCheckpoint,
  readEntries,
  readHashes,
  readNote,
  readTrustPolicy,
  tilePath,
  treeRoot,
  verifyCheckpoint,
  verifyInclusion,
} from "@caisson/releases";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

/** A directory, `caisson` in it, and servers that end with the test. */
function place(t: TestContext) {
  const directory = temporaryDirectory("release-log", t);
  const caisson = (line: string, ...more: string[]) =>
    spawnSync(process.execPath, [cli, ...line.split(" "), ...more], {
      encoding: "utf8",
      timeout: 60_000,
      cwd: directory,
    });
  const done = (line: string, ...more: string[]): string => {
    const run = caisson(line, ...more);
    equal(run.status, 0, `${line}: ${run.stderr}`);
    return run.stdout.trim();
  };
  const refused = (status: number, code: string, line: string) => {
    const run = caisson(line);
    equal(run.status, status, `${line}: ${run.stdout}${run.stderr}`);
    match(run.stderr, new RegExp(`\\[${code}\\]`));
  };
  const serve = (line: string): Promise<{ url: string; end(): Promise<void> }> => {
    const child = spawn(process.execPath, [cli, ...line.split(" "), "--json"], { cwd: directory });
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    const end = async () => {
      child.kill("SIGTERM");
      await ended;
    };
    t.after(end);
    let said = "";
    let errors = "";
    child.stderr.on("data", (chunk) => (errors += chunk));
    return new Promise((resolve, reject) => {
      void ended.then(() => reject(new Error(`${line}: ${errors}`)));
      child.stdout.on("data", (chunk) => {
        said += chunk;
        if (said.endsWith("}\n")) resolve({ url: (JSON.parse(said) as { url: string }).url, end });
      });
    });
  };
  writeFileSync(join(directory, "pass"), "correct horse battery\n");
  return { directory, done, refused, serve };
}

test("a release is published, witnessed, proved, bundled and followed; its log is whole by Tessera's fsck, too", async (t) => {
  const { directory, done, refused, serve } = place(t);
  const logKey = done("log key log.example/releases --output log.key");
  const witnesses = ["w1", "w2"].map((name) => ({
    name,
    key: done(`log key ${name}.example --witness --output ${name}.key`),
  }));
  refused(2, "cli/usage", "log key again --output log.key");
  const served = [];
  for (const { name, key } of witnesses) {
    const { url } = await serve(
      `log witness --data ${name} --key ${name}.key --log ${logKey} --listen 127.0.0.1:0`,
    );
    served.push(`${url}=${key}`);
  }
  const log = await serve(
    `log serve --data log --key log.key --listen 127.0.0.1:0 --witness ${served.join(" ")}`,
  );
  refused(75, "log-service/busy", "log serve --data log --key log.key --listen 127.0.0.1:0");

  const policy = [
    `log ${logKey}`,
    ...witnesses.map(({ name, key }) => `witness ${name} ${key}`),
    "group both all w1 w2",
    "quorum both",
    "",
  ].join("\n");
  writeFileSync(join(directory, "policy"), policy);
  for (const name of ["a", "b", "stop"]) done(`owner new ${name} --passphrase-file pass`);
  const app = done(
    "identity new --name app --owner a b --threshold 2 --stop stop --log-policy policy --output identity.json",
  );
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(exampleManifest()));
  done("release prepare --identity identity.json --image manifest.json --output r1.json");
  refused(10, "log-service/refused", `release publish r1.json --identity identity.json --log ${log.url}`);
  for (const name of ["a", "b"]) done(`release sign r1.json --key ${name} --passphrase-file pass`);
  match(done(`release publish r1.json --identity identity.json --log ${log.url}`), /r1.json: entry 1$/);
  // Again: the same place.
  match(done(`release publish r1.json --identity identity.json --log ${log.url}`), /r1.json: entry 1$/);

  const following = JSON.parse(done(`log follow ${log.url} --policy policy --state seen --json`));
  deepEqual([following.entries, following.applications[0].app, following.passedOver], [2, app, []]);
  match(done(`release list ${app} --log ${log.url} --log-policy policy`), /^1 {2}[0-9a-f]{64}$/);
  done(
    `release bundle r1.json --identity identity.json --image manifest.json --log ${log.url} --output bundle.json`,
  );
  const { proof } = readBundle(JSON.parse(readFileSync(join(directory, "bundle.json"), "utf8")));
  const { seen } = await verifyCheckpoint(readNote(proof!.checkpoint), readTrustPolicy(policy), Date.now());
  ok(Date.now() - seen! < 300_000);

  done("release revoke --identity identity.json --release 1 --reason gone --output revoked.json");
  done("release sign revoked.json --key stop --passphrase-file pass");
  done(`release publish revoked.json --identity identity.json --log ${log.url}`);
  match(done(`release list ${app} --log ${log.url} --log-policy policy`), /refused by now$/);
  match(done(`log verify ${log.url} --policy policy`), /whole: 3 entries of 1 applications/);
  match(done("log verify log --policy policy"), /whole: 3 entries/);
  match(fsck(t, log.url, logKey), /Successfully fsck/);

  // A copy of yesterday is not gone on from.
  done(`log follow ${log.url} --policy policy --state seen`);
  await log.end();
  rmSync(join(directory, "log"), { recursive: true });
  const other = await serve("log serve --data log --key log.key --listen 127.0.0.1:0");
  refused(10, "log/quorum", `log follow ${other.url} --policy policy --state seen`);
  writeFileSync(join(directory, "alone"), `log ${logKey}\nquorum none\n`);
  refused(10, "log-service/shrunk", `log follow ${other.url} --policy alone --state seen`);
  refused(75, "log-service/unreachable", `log follow ${log.url} --policy policy`);
});

const tessera = "v1.0.4";

/** A program of Tessera's, built once from the Go module proxy. Go is on every machine that runs these tests. */
function program(name: string): string {
  const { status, stdout } = spawnSync("go", ["env", "GOPATH"], { encoding: "utf8" });
  equal(status, 0, "Tessera is the oracle of logs and is built with Go: install it (golang-go)");
  const directory = join(stdout.trim(), "caisson-oracles", tessera);
  const path = join(directory, name.split("/").at(-1)!);
  if (existsSync(path)) return path;
  mkdirSync(directory, { recursive: true });
  const run = spawnSync("go", ["install", `github.com/transparency-dev/tessera/cmd/${name}@${tessera}`], {
    env: { ...process.env, GOBIN: directory, GOFLAGS: "-buildvcs=false -trimpath" },
    encoding: "utf8",
    timeout: 1_200_000,
  });
  equal(run.status, 0, run.stderr);
  return path;
}

function fsck(t: TestContext, url: string, verifier: string): string {
  const directory = temporaryDirectory("fsck", t);
  writeFileSync(join(directory, "key"), verifier);
  const run = spawnSync(
    program("fsck"),
    ["--storage_url", url, "--public_key", join(directory, "key"), "--ui=false"],
    { encoding: "utf8", timeout: 120_000 },
  );
  equal(run.status, 0, run.stdout + run.stderr);
  return run.stdout + run.stderr;
}

test("a log that Tessera wrote, and our witness cosigned, is read by our reader: entries, proofs, root", async (t) => {
  const { directory, done, serve } = place(t);
  const { privateKey } = generateKeyPairSync("ed25519");
  const { d, x } = privateKey.export({ format: "jwk" });
  const name = "tessera.example/log";
  const [seed, raw] = [d, x].map((text) => Buffer.from(text!, "base64url")) as [Buffer, Buffer];
  const encoded = Buffer.concat([Buffer.of(1), raw]).toString("base64");
  const id = createHash("sha256")
    .update(Buffer.concat([Buffer.from(`${name}\n\x01`), raw]))
    .digest("hex")
    .slice(0, 8);
  const verifier = `${name}+${id}+${encoded}`;
  const secret = Buffer.concat([Buffer.of(1), seed]).toString("base64");
  writeFileSync(join(directory, "tessera.key"), `PRIVATE+KEY+${name}+${id}+${secret}`);
  const witnessKey = done("log key w.example --witness --output w.key");
  const { url } = await serve(`log witness --data w --key w.key --log ${verifier} --listen 127.0.0.1:0`);
  writeFileSync(join(directory, "witnesses"), `witness w ${witnessKey} ${url}\nquorum w\n`);
  const entries = Array.from({ length: 300 }, (_, i) => `entry ${i}`);
  mkdirSync(join(directory, "entries"));
  for (const [i, entry] of entries.entries()) writeFileSync(join(directory, "entries", `${1000 + i}`), entry);
  const add = () =>
    spawnSync(
      program("examples/posix-oneshot"),
      "--storage_dir tessera --private_key tessera.key --entries entries/* --witness_policy_file witnesses".split(
        " ",
      ),
      { cwd: directory, encoding: "utf8", timeout: 120_000 },
    );
  const run = add();
  equal(run.status, 0, run.stderr);

  const source = openLogDirectory(join(directory, "tessera"));
  const note = readNote(new TextDecoder().decode(await source.read("checkpoint", 65_536)));
  const policy = readTrustPolicy(`log ${verifier}\nwitness w ${witnessKey}\nquorum w\n`);
  const { checkpoint, seen } = await verifyCheckpoint(note, policy, Date.now());
  equal(checkpoint.size, 300);
  ok(Date.now() - seen! < 300_000);
  const tile = async (level: number, index: number, width: number) =>
    readHashes((await source.read(tilePath(level, index, width), 65_536))!, width);
  const read = hashesOfTiles(tile, checkpoint.size);
  deepEqual(await treeRoot(read, checkpoint.size), checkpoint.root);
  const found: string[] = [];
  for (const [index, width] of [
    [0, 256],
    [1, 44],
  ] as const) {
    const bytes = (await source.read(tilePath("entries", index, width), 1 << 20))!;
    found.push(...readEntries(bytes, width).map((entry) => new TextDecoder().decode(entry)));
  }
  deepEqual(found.toSorted(), entries.toSorted());
  for (const index of [0, 255, 256, 299]) {
    const leaf = await leafHash(new TextEncoder().encode(found[index]!));
    ok(
      await verifyInclusion({ index, leaf }, checkpoint, await inclusionProof(read, index, checkpoint.size)),
    );
  }
  equal(readCheckpoint(note.text).origin, name);
  const server = createServer((request, response) => {
    const path = join(directory, "tessera", request.url!.replace(/\.\./g, ""));
    if (existsSync(path)) response.end(readFileSync(path));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  t.after(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const over = fetchLog(`http://127.0.0.1:${port}`);
  deepEqual(await over.read("checkpoint", 65_536), await source.read("checkpoint", 65_536));
});
