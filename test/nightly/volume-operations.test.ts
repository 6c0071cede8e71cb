// SPDX-License-Identifier: Apache-2.0
/**
 * Random operations on files of a persistent volume, as fsstress does them, each also done to a model in memory: after
 * every round the volume holds what the model says, and after a kill at a checkpoint exactly what it held then.
 */
import { equal, ok } from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { readSpec } from "@caisson/image";
import { writeAppSpec } from "../support/services.ts";
import { ask, VolumeHost } from "../support/volume-host.ts";

const rounds = 6;
const operations = 1500;

/** The application: `POST /run?seed=N` does a round of operations, `GET /state` says what is on the volume. */
const source = `
import * as fs from "node:fs";
import { createHash } from "node:crypto";
import { text } from "node:stream/consumers";
const { createServer, request: call } = process.getBuiltinModule("node:http");
const root = "/data/tree";
fs.mkdirSync(root, { recursive: true });

/** Everything below a directory: kind, mode, links, content. */
function state(directory = root, inside = "") {
  const lines = [];
  for (const name of fs.readdirSync(directory).sort()) {
    const [place, path] = [directory + "/" + name, inside + "/" + name];
    const entry = fs.lstatSync(place);
    if (entry.isDirectory()) lines.push(path + " d " + (entry.mode & 0o777), ...state(place, path));
    else if (entry.isSymbolicLink()) lines.push(path + " l " + fs.readlinkSync(place));
    else lines.push([path, "f", entry.mode & 0o777, entry.nlink, entry.size, digest(fs.readFileSync(place))].join(" "));
  }
  return lines;
}
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 24);

/** The model: a map of names to nodes; files with several names are one node. */
let model = load();
function load(directory = root) {
  const seen = new Map();
  const read = (place) => {
    const entry = fs.lstatSync(place);
    if (entry.isSymbolicLink()) return { link: fs.readlinkSync(place) };
    if (!entry.isDirectory()) {
      const node = seen.get(entry.ino) ?? { mode: entry.mode & 0o777, bytes: fs.readFileSync(place), names: 0 };
      node.names++;
      seen.set(entry.ino, node);
      return node;
    }
    return { mode: entry.mode & 0o777, entries: new Map(fs.readdirSync(place).map((name) => [name, read(place + "/" + name)])) };
  };
  return read(directory);
}
function told(node, inside = "") {
  return [...node.entries].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([name, one]) => {
    const path = inside + "/" + name;
    if (one.entries) return [path + " d " + one.mode, ...told(one, path)];
    if (one.link !== undefined) return [path + " l " + one.link];
    return [[path, "f", one.mode, one.names, one.bytes.length, digest(one.bytes)].join(" ")];
  });
}

let random = 1;
const pick = (below) => ((random = (Math.imul(random, 1664525) + 1013904223) >>> 0), Math.floor((random / 2 ** 32) * below));
const name = () => "abcdefgh"[pick(8)] + pick(3);

/** A directory of the model, at random, and where it is. */
function somewhere() {
  let [node, place] = [model, root];
  for (let depth = pick(4); depth > 0; depth--) {
    const inner = [...node.entries].filter(([, one]) => one.entries);
    if (inner.length === 0) break;
    const [found, one] = inner[pick(inner.length)];
    [node, place] = [one, place + "/" + found];
  }
  return { node, place };
}
function resized(bytes, size) {
  const other = Buffer.alloc(size);
  bytes.copy(other);
  return other;
}
const within = (node, wanted) => node === wanted || [...(node.entries?.values() ?? [])].some((one) => within(one, wanted));

function once() {
  const { node, place } = somewhere();
  const one = name();
  const [at, there] = [place + "/" + one, node.entries.get(one)];
  const isFile = there?.bytes !== undefined;
  switch (pick(11)) {
    case 0: case 1: case 2: {
      if (there !== undefined && !isFile) return;
      const [offset, bytes] = [pick(3) === 0 ? pick(200_000) : pick(3000), Buffer.alloc(1 + pick(pick(8) === 0 ? 300_000 : 4000), pick(256))];
      const file = fs.openSync(at, isFile ? "r+" : "w+", 0o644);
      fs.writeSync(file, bytes, 0, bytes.length, offset);
      if (pick(20) === 0) fs.fsyncSync(file);
      fs.closeSync(file);
      const before = isFile ? there : { mode: 0o644, bytes: Buffer.alloc(0), names: 1 };
      before.bytes = resized(before.bytes, Math.max(before.bytes.length, offset + bytes.length));
      bytes.copy(before.bytes, offset);
      node.entries.set(one, before);
      return;
    }
    case 3:
      if (!isFile) return;
      { const size = pick(100_000); fs.truncateSync(at, size); there.bytes = resized(there.bytes, size); }
      return;
    case 4:
      if (there === undefined) { fs.mkdirSync(at, { mode: 0o755 }); node.entries.set(one, { mode: 0o755, entries: new Map() }); }
      return;
    case 5:
      if (there === undefined || pick(2) === 0) return;
      if (there.entries) { if (there.entries.size > 3) return; fs.rmSync(at, { recursive: true }); const drop = (each) => { if (each.names) each.names--; each.entries?.forEach(drop); }; drop(there); }
      else { fs.unlinkSync(at); if (there.names) there.names--; }
      node.entries.delete(one);
      return;
    case 6: {
      if (there === undefined) return;
      const to = somewhere();
      const other = name();
      const target = to.node.entries.get(other);
      if (within(there, to.node) || target === there || (target && (target.entries || there.entries))) return;
      fs.renameSync(at, to.place + "/" + other);
      if (target?.names) target.names--;
      node.entries.delete(one);
      to.node.entries.set(other, there);
      return;
    }
    case 7: {
      if (!isFile) return;
      const other = name();
      if (node.entries.has(other)) return;
      fs.linkSync(at, place + "/" + other);
      there.names++;
      node.entries.set(other, there);
      return;
    }
    case 8:
      if (there === undefined) { fs.symlinkSync("to-" + one, at); node.entries.set(one, { link: "to-" + one }); }
      return;
    case 9:
      if (isFile) { const mode = [0o600, 0o640, 0o755][pick(3)]; fs.chmodSync(at, mode); there.mode = mode; }
      return;
    case 10: {
      if (!isFile) return;
      const other = name();
      if (node.entries.has(other)) return;
      fs.copyFileSync(at, place + "/" + other);
      node.entries.set(other, { mode: there.mode, bytes: Buffer.from(there.bytes), names: 1 });
    }
  }
}

const checkpoint = () => new Promise((resolve, reject) => {
  call({ socketPath: "/run/caisson.sock", method: "POST", path: "/checkpoint", agent: false }, async (response) => {
    const answer = await text(response);
    response.statusCode === 200 ? resolve(answer) : reject(new Error(answer));
  }).once("error", reject).end();
});

async function answer(request) {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/state") return state().join("\\n");
  random = Number(url.searchParams.get("seed"));
  for (let index = Number(url.searchParams.get("count")); index > 0; index--) once();
  const [found, wanted] = [state(), told(model)];
  const wrong = wanted.findIndex((line, index) => line !== found[index]);
  if (wrong >= 0 || found.length !== wanted.length) throw new Error("wanted " + wanted[wrong] + ", found " + found[wrong] + ", " + found.length);
  await checkpoint();
  return found.join("\\n");
}
createServer(async (request, response) => {
  const [code, body] = await answer(request).then((body) => [200, body], (error) => [500, error.stack]);
  response.writeHead(code).end(body);
}).listen(8080);
`;

const place = mkdtempSync(join(tmpdir(), "caisson-operations-"));
let host: VolumeHost;
before(async () => {
  mkdirSync(join(place, "app"));
  writeFileSync(join(place, "app/server.mjs"), source);
  const lines =
    "  node: ./app/server.mjs\n  port: 8080\n  memory: 256MiB\n  pids: 64\n  volumes:\n    data: /data\n";
  writeAppSpec(place, "operations", lines);
  appendFileSync(join(place, "caisson.yaml"), "\nvolumes:\n  data: { size: 512MiB }\n");
  host = new VolumeHost(await prepare(await readSpec(place), "development", {}, new Progress()));
});
after(async () => {
  await host?.remove();
  rmSync(place, { recursive: true });
});

test("after every round, and after every kill, the volume holds what was done to it", async () => {
  let last = "";
  for (let round = 1; round <= rounds; round++) {
    const boot = await host.boot();
    equal(boot.reason, "ready", boot.message);
    equal(await ask(boot, "GET", "state"), last, `round ${round}, after the kill`);
    for (const seed of [2 * round, 2 * round + 1]) {
      last = String(await ask(boot, "POST", `run?seed=${seed}&count=${operations}`));
    }
    ok(last.split("\n").length > 20, last);
    await host.pull(boot);
  }
});
