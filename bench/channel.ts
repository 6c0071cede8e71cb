// SPDX-License-Identifier: Apache-2.0
/**
 * What the front costs beside the plainest TLS proxy of the same Node, both as processes of their own before one
 * application; what a client waits for; and what a browser has to load.
 *
 * The front is the bundle that images get, with their flags. Requests are made, and sealed, before a round begins, and
 * answers are only counted, so that what is measured is the server and not its client; before each round one answer is
 * opened. Rounds of both servers alternate, in turned order every other time; a figure is the median over rounds of what
 * both gave within the same round.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect, type TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import type { Row } from "@caisson/cli/commands/bench";
import { attestedFetch } from "@caisson/client";
import { sealedFetch } from "@caisson/client/sealed-fetch";
import { testGuest, testPlatform } from "@caisson/client/testing/guest";
import { selfSigned } from "@caisson/front/certificate";
import { frontService } from "@caisson/guest/front";
import { bundleGuest } from "@caisson/image/bundle";
import { forBrowsers } from "@caisson/page";
import { keyPairOf } from "@caisson/protocol/hpke-context";
import { tunnelTypes } from "@caisson/protocol/tunnel";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";
import { build } from "esbuild";
import { median } from "./figures/figures.ts";

const repository = new URL("../", import.meta.url).pathname;
const rounds = 10;
const clients = 16;
const held = 500;
const host = "bench.internal";

interface Process {
  child: ChildProcess;
  port: number;
}

/** A process that says its port first. */
async function start(args: readonly string[]): Promise<Process> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = (await once(child.stdout!, "data")) as [Buffer];
  return { child, port: Number(said.toString()) };
}

/** The front as PID 1 starts it: its bundle and flags, setup to read, a socket that listens. */
async function startFront(place: string, key: KeyObject, application: number): Promise<Process> {
  const setup = {
    tlsKey: key.export({ format: "der", type: "pkcs8" }).toString("base64"),
    hpkeKey: Buffer.alloc(32, 7).toString("base64"),
    application: { host: "127.0.0.1", port: application },
    require: "tls",
    names: [host],
  };
  writeFileSync(join(place, "setup.json"), JSON.stringify(setup));
  const program = join(place, "front.mjs");
  writeFileSync(program, (await bundleGuest("packages/front/src/main.ts")).code);
  const socket = createServer().listen(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address() as AddressInfo;
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const { arguments: words, environment } = frontService({
    port,
    service: "bench",
    target: application,
    names: [],
    require: "tls",
  });
  const flags = words.slice(1, -1);
  const child = spawn(process.execPath, [...flags, program], {
    stdio: [openSync(join(place, "setup.json"), "r"), fd, "pipe"],
    env: environment,
  });
  await once(child.stderr!, "data");
  socket.close();
  return { child, port };
}

/** Processor time of all threads of a process so far, in ms (Documentation/scheduler/sched-stats.rst: nanoseconds). */
function processorMs({ child }: Process): number {
  const tasks = `/proc/${child.pid}/task`;
  let sum = 0;
  for (const task of readdirSync(tasks)) {
    sum += Number(readFileSync(`${tasks}/${task}/schedstat`, "latin1").split(" ")[0]);
  }
  return sum / 1e6;
}

/** Resident memory in MiB. */
const residentMiB = ({ child }: Process): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))![1]) / 1024;

const endOfChunks = Buffer.from("\r\n0\r\n\r\n");

/** A kept connection over which whole requests go and answers come, read as far as is needed to see their end. */
class Connection {
  readonly socket: TLSSocket;
  constructor(port: number) {
    this.socket = connect({
      host: "127.0.0.1",
      port,
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
  }

  /** The answer, head and all. */
  exchange(request: Uint8Array): Promise<Buffer[]> {
    return new Promise((resolve, reject) => {
      const pieces: Buffer[] = [];
      let [left, isChunked] = [Number.NaN, false];
      const take = (piece: Buffer) => {
        pieces.push(piece);
        if (Number.isNaN(left) && !isChunked) {
          const got = pieces.length === 1 ? piece : Buffer.concat(pieces);
          const end = got.indexOf("\r\n\r\n");
          if (end === -1) return;
          const head = got.toString("latin1", 0, end).toLowerCase();
          if (!head.startsWith("http/1.1 200")) return finish(new Error(head));
          isChunked = head.includes("transfer-encoding: chunked");
          left = Number(/content-length: (\d+)/.exec(head)?.[1]) - (got.length - end - 4);
        } else left -= piece.length;
        // The last chunk may come in a piece of its own.
        const tail = Buffer.concat(pieces.slice(-2)).subarray(-endOfChunks.length);
        if (isChunked ? tail.equals(endOfChunks) : left === 0) finish();
      };
      const failed = (error: Error) => finish(error);
      const finish = (error?: Error) => {
        this.socket.off("data", take).off("error", failed);
        if (error === undefined) resolve(pieces);
        else reject(error);
      };
      this.socket.on("data", take).once("error", failed).write(request);
    });
  }
}

/** A request of HTTP/1.1 as bytes. */
function requestBytes(path: string, type?: string, body?: Uint8Array): Buffer {
  const head = `${body === undefined ? "GET" : "POST"} ${path} HTTP/1.1\r\nHost: ${host}\r\n`;
  const about =
    body && `Content-Type: ${type ?? "application/octet-stream"}\r\nContent-Length: ${body.length}\r\n`;
  return Buffer.concat([Buffer.from(`${head}${about ?? ""}\r\n`), ...(body ? [body] : [])]);
}

const hpkeConfig = async () => hpkeConfigOf((await keyPairOf(Buffer.alloc(32, 7))).publicKey);

/** Bodies of sealed requests, each good once. */
async function sealedBodies(count: number, body?: Uint8Array<ArrayBuffer>): Promise<Buffer[]> {
  const config = await hpkeConfig();
  const made: Buffer[] = [];
  const stop = new Error("it was only sealed");
  for (let i = 0; i < count; i++) {
    const carry = (bytes: Uint8Array) => {
      made.push(requestBytes("/.well-known/caisson/tunnel", tunnelTypes.request, bytes));
      return Promise.reject(stop);
    };
    await sealedFetch(carry, config, sealedRequest(body)).catch((error) => {
      if (error !== stop) throw error;
    });
  }
  return made;
}
const sealedRequest = (body?: Uint8Array<ArrayBuffer>): Request =>
  new Request(`https://${host}/`, body === undefined ? {} : { method: "POST", body });

/** Throws where the front's sealed answer is not what the application says. */
async function checkSealed(port: number, size: number, body?: Uint8Array<ArrayBuffer>): Promise<void> {
  const carry = (bytes: Uint8Array): Promise<Response> =>
    new Promise((resolve, reject) => {
      const sending = httpsRequest(
        {
          host: "127.0.0.1",
          port,
          path: "/.well-known/caisson/tunnel",
          method: "POST",
          headers: { "content-type": tunnelTypes.request, "content-length": bytes.length },
          rejectUnauthorized: false,
          agent: false,
        },
        (answer) => {
          const headers = { "content-type": answer.headers["content-type"]! };
          answer.toArray().then((parts) => resolve(new Response(Buffer.concat(parts), { headers })), reject);
        },
      );
      sending.once("error", reject).end(bytes);
    });
  const answer = await sealedFetch(carry, await hpkeConfig(), sealedRequest(body));
  const { byteLength } = await answer.arrayBuffer();
  if (byteLength !== size) throw new Error(`a sealed answer has ${byteLength} bytes`);
}

/** Requests a second, and the server's processor time for each, in ms. */
async function load(server: Process, requests: readonly Uint8Array[]) {
  const connections = Array.from({ length: clients }, () => new Connection(server.port));
  await Promise.all(connections.map(({ socket }) => once(socket, "secureConnect")));
  const [began, before] = [performance.now(), processorMs(server)];
  let next = 0;
  await Promise.all(
    connections.map(async (connection) => {
      while (next < requests.length) await connection.exchange(requests[next++]!);
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  const each = (processorMs(server) - before) / requests.length;
  for (const { socket } of connections) socket.destroy();
  return { rate: requests.length / seconds, each };
}

type Found = Awaited<ReturnType<typeof load>>;

/** What was found in each round, by kind. */
class Rounds<Kind extends string> {
  readonly #found: Record<Kind, Found>[] = [];
  add(round: Record<Kind, Found>): void {
    this.#found.push(round);
  }
  of(kind: Kind, what: keyof Found): number {
    return median(this.#found.map((round) => round[kind][what]));
  }
  /** Of one kind to another within a round. */
  ratio(kind: Kind, other: Kind, what: keyof Found): number {
    return median(this.#found.map((round) => round[kind][what] / round[other][what]));
  }
  more(kind: Kind, other: Kind): number {
    return median(this.#found.map((round) => round[kind].each - round[other].each));
  }
}

async function* throughput(plain: Process, front: Process): AsyncIterable<Row> {
  const large = new Uint8Array(1 << 20);
  // Enough for the compilers to be done within the first round.
  const [small, few, big] = [6000, 1000, 24];
  const repeat = (count: number, bytes: Buffer) => Array.from({ length: count }, () => bytes);
  const kinds = {
    plain: () => load(plain, repeat(small, requestBytes("/"))),
    front: () => load(front, repeat(small, requestBytes("/"))),
    sealed: async () => load(front, await sealedBodies(few)),
    plainLarge: () => load(plain, repeat(big, requestBytes("/", undefined, large))),
    frontLarge: () => load(front, repeat(big, requestBytes("/", undefined, large))),
    sealedLarge: async () => load(front, await sealedBodies(big, large)),
  };
  const names = Object.keys(kinds) as (keyof typeof kinds)[];
  const found = new Rounds<keyof typeof kinds>();
  // The first is for the compilers.
  for (let round = -1; round < rounds; round++) {
    await checkSealed(front.port, 1024);
    await checkSealed(front.port, large.length, large);
    const measured: Partial<Record<keyof typeof kinds, Found>> = {};
    for (const name of round % 2 === 0 ? names : names.toReversed()) measured[name] = await kinds[name]();
    if (round >= 0) found.add(measured as Record<keyof typeof kinds, Found>);
  }
  const pairs = [
    ["1 KiB over kept connections", "front", "plain", 0.9],
    ["1 MiB both ways", "frontLarge", "plainLarge", undefined],
    ["1 MiB both ways, sealed", "sealedLarge", "plainLarge", 0.5],
  ] as const;
  for (const [what, ours, peer, goal] of pairs) {
    const note = `peer: a plain TLS proxy of the same Node${goal === undefined ? "" : `; goal: at least ${goal}`}`;
    const row = (unit: string, kind: keyof Found) => ({
      unit,
      ours: found.of(ours, kind),
      peer: found.of(peer, kind),
      ratio: Number(found.ratio(ours, peer, kind).toPrecision(3)),
    });
    yield { name: `channel: ${what}`, ...row("/s", "rate"), note };
    yield { name: `channel: ${what}, processor time`, ...row("ms", "each"), note: "of the server alone" };
  }
  yield {
    name: "channel: 1 KiB through the tunnel, processor time more",
    unit: "ms",
    ours: found.more("sealed", "front"),
    limit: 0.8,
    note: "limit: the goal; the front's side alone",
  };
}

/** How long until the first byte of an answer is there, over a new connection and a kept one, beside an unattested one. */
async function* firstByte(): AsyncIterable<Row> {
  const platform = testPlatform();
  const guest = await testGuest(platform, (_, response) => response.end("ok"));
  const unattested = () =>
    new Promise<void>((resolve, reject) => {
      const asked = httpsRequest(guest.url, { rejectUnauthorized: false, agent: false }, (answer) => {
        text(answer).then(() => resolve(), reject);
      });
      asked.once("error", reject).end();
    });
  // Another policy object is another client, which knows nothing yet.
  const anew = async () => {
    const policy = { ...platform.judgement.policy };
    await (await attestedFetch(guest.url, { ...platform.judgement, policy })).text();
  };
  const again = async () => void (await (await attestedFetch(guest.url, platform.judgement)).text());
  const took = async (work: () => Promise<void>): Promise<number> => {
    const began = performance.now();
    await work();
    return performance.now() - began;
  };
  try {
    const found: { plain: number; anew: number; again: number }[] = [];
    for (let round = -3; round < 3 * rounds; round++) {
      const one = { plain: await took(unattested), anew: await took(anew), again: await took(again) };
      if (round >= 0) found.push(one);
    }
    const of = (name: "plain" | "anew" | "again") => median(found.map((one) => one[name]));
    yield {
      name: "channel: first attested answer, without the quote's own time",
      unit: "ms",
      ours: of("anew"),
      peer: of("plain"),
      note: "peer: an answer over a new connection that nobody judges; 25 ms are the front's wait for company",
    };
    yield { name: "channel: an answer of a guest that was judged before", unit: "ms", ours: of("again") };
  } finally {
    guest.close();
  }
}

async function* memory(front: Process, idle: number): AsyncIterable<Row> {
  yield {
    name: "channel: front's memory before load",
    unit: "MiB",
    ours: idle,
    limit: 70,
    note: "limit: the goal; resident, of which Node's own text is a part",
  };
  const sockets = await Promise.all(
    Array.from({ length: held }, async () => {
      const socket = connect({ host: "127.0.0.1", port: front.port, rejectUnauthorized: false });
      await once(socket, "secureConnect");
      return socket;
    }),
  );
  yield {
    name: `channel: front's memory holding ${held} connections`,
    unit: "MiB",
    ours: residentMiB(front),
    note: "after the load of the rows above",
  };
  for (const socket of sockets) socket.destroy();
}

export async function* run(): AsyncIterable<Row> {
  const place = mkdtempSync(join(tmpdir(), "caisson-channel-"));
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const pem = {
    key: key.export({ format: "pem", type: "pkcs8" }),
    cert: selfSigned(key, [host], Date.now()),
  };
  writeFileSync(join(place, "pem.json"), JSON.stringify(pem));
  const peer = join(repository, "bench/peer/tls-proxy.ts");
  const all: Process[] = [];
  try {
    const application = await start([peer, "application"]);
    all.push(application);
    const plain = await start([peer, "proxy", `${application.port}`, join(place, "pem.json")]);
    all.push(plain);
    const front = await startFront(place, key, application.port);
    all.push(front);
    const idle = residentMiB(front);
    yield* throughput(plain, front);
    yield* firstByte();
    yield* memory(front, idle);
  } finally {
    for (const { child } of all) child.kill();
    rmSync(place, { recursive: true });
  }
  const bundled = await build({
    entryPoints: [join(repository, "packages/client/src/browser/fetch.ts")],
    ...forBrowsers,
  });
  yield {
    name: "channel: browser client with verifier, gzip",
    unit: "kB",
    ours: gzipSync(bundled.outputFiles[0]!.contents, { level: 9 }).length / 1000,
    limit: 45,
    note: "limit: the goal",
  };
}
