// SPDX-License-Identifier: Apache-2.0
/** Fetching into the cache from a server that is slow, stale, broken or hostile. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { ImageError } from "@caisson/image/errors";
import { type ArchiveFile, type FetchProgress, fetchAll } from "@caisson/image/fetch";
import { writeTar } from "@caisson/image/tar-writer";
import { sha256 } from "@caisson/image/testing/archive";
import { onSmallDisk } from "@caisson/image/testing/small-disk";
import { serve, type TestServer } from "../support/server.ts";

let server: TestServer;
let cache: string;
beforeEach(async () => {
  server = await serve();
  cache = mkdtempSync(join(tmpdir(), "caisson-fetch-"));
});
afterEach(async () => {
  await server.close();
  rmSync(cache, { recursive: true, force: true });
});

const bytesOf = (seed: number, size: number) => Buffer.alloc(size, `${seed} `);

/** Puts a file on the server and says how it is pinned. */
function publish(path: string, bytes: Uint8Array): ArchiveFile {
  server.files.set(path, bytes);
  return { archive: "debian", path, size: bytes.length, sha256: sha256(bytes) };
}

const options = (onProgress?: (progress: FetchProgress) => void) => ({
  mirrors: { debian: server.url, "debian-security": `${server.url}-security` },
  cache,
  ...(onProgress && { onProgress }),
});

const stored = () => (existsSync(join(cache, "sha256")) ? readdirSync(join(cache, "sha256")) : []);

test("files come once, four at a time, under their hash", async () => {
  let [open, most] = [0, 0];
  const waiting: (() => void)[] = [];
  server.intercept = (request, response) => {
    most = Math.max(most, ++open);
    const bytes = server.files.get(request.url!.slice(1))!;
    waiting.push(() => {
      open--;
      response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    });
    // Four wait for each other, and long enough for a fifth to be seen.
    if (waiting.length === 4) setTimeout(() => waiting.splice(0).forEach((answer) => answer()), 20);
    return true;
  };
  const files = Array.from({ length: 12 }, (_, i) => publish(`pool/${i}`, bytesOf(i, 10_000)));
  const progress: FetchProgress[] = [];
  const paths = await fetchAll(
    [...files, files[0]!],
    options((p) => progress.push(p)),
  );
  equal(paths.size, 12);
  for (const { sha256, path } of files) deepEqual(readFileSync(paths.get(sha256)!), server.files.get(path));
  equal(most, 4);
  deepEqual(progress.at(-1)?.doneBytes, 120_000);
  deepEqual(progress.at(-1)?.doneFiles, 12);

  await fetchAll(files, options());
  equal(server.requests.length, 12);
});

test("two processes fetch the same file into one cache at once", async () => {
  const file = publish("pool/a", bytesOf(1, 400_000));
  server.intercept = (_, response) => {
    const bytes = server.files.get("pool/a")!;
    response.writeHead(200, { "content-length": bytes.length });
    response.write(bytes.subarray(0, 100_000));
    // The first answer ends when the second process has asked, too.
    const timer = setInterval(() => {
      if (server.requests.length < 2) return;
      clearInterval(timer);
      response.end(bytes.subarray(100_000));
    }, 10);
    return true;
  };
  const program = `
    import { fetchAll } from ${JSON.stringify(import.meta.resolve("@caisson/image/fetch"))};
    await fetchAll(${JSON.stringify([file])}, ${JSON.stringify(options())});`;
  const children = [1, 2].map(() =>
    spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" }),
  );
  const codes = await Promise.all(
    children.map((child) => new Promise((resolve) => child.once("exit", resolve))),
  );
  deepEqual(codes, [0, 0]);
  deepEqual(stored(), [file.sha256]);
  deepEqual(readFileSync(join(cache, "sha256", file.sha256)), server.files.get("pool/a"));
});

test("a damaged file in the cache is fetched again", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  const path = (await fetchAll([file], options())).get(file.sha256)!;
  writeFileSync(path, bytesOf(2, 5000));
  await fetchAll([file], options());
  deepEqual(readFileSync(path), bytesOf(1, 5000));
});

test("a connection that breaks is taken up where it broke", async () => {
  const file = publish("pool/a", bytesOf(1, 300_000));
  server.intercept = (request, response) => {
    if (request.headers.range !== undefined) return false;
    response.writeHead(200, { "content-length": 300_000 });
    response.write(server.files.get("pool/a")!.subarray(0, 100_000), () => response.destroy());
    return true;
  };
  const paths = await fetchAll([file], options());
  deepEqual(readFileSync(paths.get(file.sha256)!), server.files.get("pool/a"));
  match(server.requests[1]!.range!, /^bytes=[1-9]\d*-$/);
});

test("a server without Range starts again from the beginning", async () => {
  const file = publish("pool/a", bytesOf(1, 300_000));
  let first = true;
  server.intercept = (_, response) => {
    response.writeHead(200, { "content-length": 300_000 });
    const bytes = server.files.get("pool/a")!;
    if (first) response.write(bytes.subarray(0, 100_000), () => response.destroy());
    else response.end(bytes);
    first = false;
    return true;
  };
  const paths = await fetchAll([file], options());
  deepEqual(readFileSync(paths.get(file.sha256)!), server.files.get("pool/a"));
});

test("what a killed run left is continued; the cache never holds half a file", async () => {
  const file = publish("pool/a", bytesOf(1, 400_000));
  server.intercept = (_, response) => {
    response.writeHead(200, { "content-length": 400_000 });
    response.write(server.files.get("pool/a")!.subarray(0, 150_000)); // and then nothing more
    return true;
  };
  const program = `
    import { fetchAll } from ${JSON.stringify(import.meta.resolve("@caisson/image/fetch"))};
    await fetchAll(${JSON.stringify([file])}, ${JSON.stringify(options())});`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" });
  while (!stored().some((name) => statSync(join(cache, "sha256", name)).size > 0)) await delay(20);
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
  deepEqual(
    stored().map((name) => name.slice(64).replace(/\d+/g, "N")),
    [".N.N.part"],
  );

  server.intercept = () => false;
  let progress: FetchProgress | undefined;
  const paths = await fetchAll(
    [file],
    options((p) => {
      progress = p;
    }),
  );
  equal(progress?.doneBytes, 400_000);
  deepEqual(readFileSync(paths.get(file.sha256)!), server.files.get("pool/a"));
  match(server.requests.at(-1)!.range!, /^bytes=[1-9]\d*-$/);
  deepEqual(stored(), [file.sha256]);
});

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
test("a damaged part costs a new start, not a failure", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  mkdirSync(join(cache, "sha256"));
  writeFileSync(join(cache, "sha256", `${file.sha256}.999999999.0.part`), "not the beginning of it");
  const paths = await fetchAll([file], options());
  deepEqual(readFileSync(paths.get(file.sha256)!), server.files.get("pool/a"));
  deepEqual(stored(), [file.sha256]);
});

test("refused: another file of the same size", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  server.files.set("pool/a", bytesOf(2, 5000));
  await rejects(fetchAll([file], options()), { code: "fetch/hash", kind: "input" });
  deepEqual(stored(), []);
});

test("refused: a longer file, whether or not it says so", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  server.files.set("pool/a", bytesOf(1, 6000));
  await rejects(fetchAll([file], options()), { code: "fetch/size" });
  server.intercept = (_, response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write(bytesOf(1, 4000)), 5); // never ends by itself
    response.on("close", () => clearInterval(timer));
    return true;
  };
  await rejects(fetchAll([file], options()), { code: "fetch/size" });
});

test("refused: a shorter file", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  server.files.set("pool/a", bytesOf(1, 4000));
  await rejects(fetchAll([file], options()), { code: "fetch/size" });
});

test("a file that the mirror dropped names the way out", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  server.files.clear();
  await rejects(fetchAll([file], options()), (error: ImageError) => {
    equal(error.code, "fetch/gone");
    match(error.fix!, /caisson lock/);
    return true;
  });
});

test("a server that answers with an error", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  server.intercept = (_, response) => {
    response.writeHead(503).end();
    return true;
  };
  await rejects(fetchAll([file], options()), { code: "fetch/status", kind: "unavailable" });
});

test("no server", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  const gone = await serve();
  await gone.close();
  const dead = { ...options(), mirrors: { debian: gone.url, "debian-security": gone.url } };
  await rejects(fetchAll([file], dead), {
    code: "fetch/unreachable",
    kind: "unavailable",
    message: /: connection refused$/,
  });
});

test("when one file fails, the others are stopped and nothing goes on in the background", async () => {
  const slow = publish("pool/slow", bytesOf(1, 500_000));
  const bad = publish("pool/bad", bytesOf(2, 1000));
  server.files.set("pool/bad", bytesOf(3, 1000));
  server.intercept = (request, response) => {
    if (request.url !== "/pool/slow") return false;
    response.writeHead(200, { "content-length": 500_000 });
    response.write(bytesOf(1, 1000));
    return true;
  };
  await rejects(fetchAll([slow, bad], options()), { code: "fetch/hash" });
});

test("an abort stops it, and the next run goes on", async () => {
  const file = publish("pool/a", bytesOf(1, 200_000));
  server.intercept = (_, response) => {
    response.writeHead(200, { "content-length": 200_000 });
    response.write(bytesOf(1, 1000));
    return true;
  };
  const signal = AbortSignal.timeout(300);
  await rejects(fetchAll([file], { ...options(), signal }), { name: "TimeoutError" });
  server.intercept = () => false;
  await fetchAll([file], options());
});

test("a cache that cannot be written", async () => {
  const file = publish("pool/a", bytesOf(1, 5000));
  writeFileSync(join(cache, "sha256"), "in the way");
  await rejects(fetchAll([file], options()), { code: "fetch/disk", kind: "unavailable" });
});

/** What a program says whose `directory` is a disk of 1 MiB. */
async function sayOnSmallDisk(directory: string, program: string): Promise<Record<string, string>> {
  const command = [process.execPath, "--input-type=module", "-e", program];
  const { stdout, stderr } = await onSmallDisk(directory, "1m", command);
  equal(stderr, "");
  return JSON.parse(stdout);
}

const reportError =
  ".catch(({ code, message, kind }) => console.log(JSON.stringify({ code, message, kind })));";

test("a full disk is said, and the next run with room succeeds", async () => {
  const file = publish("pool/a", bytesOf(1, 4 << 20));
  const program = `
    import { fetchAll } from ${JSON.stringify(import.meta.resolve("@caisson/image/fetch"))};
    await fetchAll(${JSON.stringify([file])}, ${JSON.stringify(options())})${reportError}`;
  const error = await sayOnSmallDisk(cache, program);
  deepEqual([error["code"], error["kind"]], ["fetch/disk", "unavailable"]);
  match(error["message"]!, /disk of .* is full/);
  ok((await fetchAll([file], options())).has(file.sha256));
});

test("a disk that fills up while unpacking is said", async () => {
  const archive = join(cache, "archive.tar");
  writeFileSync(
    archive,
    Buffer.concat([...writeTar([{ path: "a", mode: 0o644, content: bytesOf(1, 4 << 20) }])]),
  );
  const disk = join(cache, "disk");
  mkdirSync(disk);
  const program = `
    import { createReadStream } from "node:fs";
    import { extract } from ${JSON.stringify(import.meta.resolve("@caisson/image/extract"))};
    import { readTar } from ${JSON.stringify(import.meta.resolve("@caisson/image/tar"))};
    const entries = readTar(createReadStream(${JSON.stringify(archive)}), "the archive");
    await extract([entries], ${JSON.stringify(join(disk, "out"))})${reportError}`;
  const error = await sayOnSmallDisk(disk, program);
  deepEqual([error["code"], error["kind"]], ["archive/disk", "unavailable"]);
});
