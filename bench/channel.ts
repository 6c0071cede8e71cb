// SPDX-License-Identifier: Apache-2.0
/**
 * What the front costs beside the plainest TLS proxy of the same Node, both as processes of their own before one
 * application, in alternating rounds; and what a browser has to load.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { gzipSync } from "node:zlib";
import type { Row } from "@caisson/cli/commands/bench";
import { sealedFetch } from "@caisson/client/sealed-fetch";
import { selfSigned } from "@caisson/front/certificate";
import { forBrowsers } from "@caisson/page";
import { keyPairOf } from "@caisson/protocol/hpke-context";
import { tunnelTypes } from "@caisson/protocol/tunnel";
import { hpkeConfigOf } from "@caisson/vocabulary/channel";
import { build } from "esbuild";

const repository = new URL("../", import.meta.url).pathname;
const rounds = 5;
const roundMs = 2_000;
const clients = 16;
const held = 500;
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

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

/** The front as PID 1 starts it: setup to read, a socket that listens. */
async function startFront(place: string, key: KeyObject, application: number): Promise<Process> {
  const setup = {
    tlsKey: key.export({ format: "der", type: "pkcs8" }).toString("base64"),
    hpkeKey: Buffer.alloc(32, 7).toString("base64"),
    application: { host: "127.0.0.1", port: application },
    require: "tls",
    names: ["bench.internal"],
  };
  writeFileSync(join(place, "setup.json"), JSON.stringify(setup));
  const socket = createServer().listen(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address() as AddressInfo;
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const child = spawn(process.execPath, [join(repository, "packages/front/src/main.ts")], {
    stdio: [openSync(join(place, "setup.json"), "r"), fd, "pipe"],
  });
  await once(child.stderr!, "data");
  socket.close();
  return { child, port };
}

/** Processor time of a process so far, in ms (proc_pid_stat(5)); and its resident memory in MiB. */
function processorMs({ child }: Process): number {
  const stat = readFileSync(`/proc/${child.pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
const residentMiB = ({ child }: Process): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))![1]) / 1024;

function ask(agent: Agent, port: number, path: string, type?: string, body?: Uint8Array): Promise<Response> {
  return new Promise((resolve, reject) => {
    const sending = request(
      {
        agent,
        host: "127.0.0.1",
        port,
        path,
        method: body === undefined ? "GET" : "POST",
        ...(body && {
          headers: { "content-length": body.length, "content-type": type ?? "application/octet-stream" },
        }),
      },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (piece: Buffer) => parts.push(piece));
        answer.once("end", () => {
          const headers = { "content-type": answer.headers["content-type"] ?? "" };
          resolve(new Response(Buffer.concat(parts), { status: answer.statusCode!, headers }));
        });
      },
    );
    sending.once("error", reject);
    sending.end(body);
  });
}

/** Requests a second, and the server's processor time for each, in ms. */
async function load(server: Process, exchange: (agent: Agent) => Promise<unknown>) {
  const agent = new Agent({
    keepAlive: true,
    maxSockets: clients,
    rejectUnauthorized: false,
    maxCachedSessions: 0,
  });
  await Promise.all(Array.from({ length: clients }, () => exchange(agent)));
  const [began, before] = [performance.now(), processorMs(server)];
  let done = 0;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (performance.now() - began < roundMs) {
        await exchange(agent);
        done++;
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  agent.destroy();
  return { rate: done / seconds, each: (processorMs(server) - before) / done };
}

export async function* run(): AsyncIterable<Row> {
  const place = mkdtempSync(join(tmpdir(), "caisson-channel-"));
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const pem = {
    key: key.export({ format: "pem", type: "pkcs8" }),
    cert: selfSigned(key, ["bench.internal"], Date.now()),
  };
  writeFileSync(join(place, "pem.json"), JSON.stringify(pem));
  const peer = join(repository, "bench/peer/tls-proxy.ts");
  const application = await start([peer, "application"]);
  const plain = await start([peer, "proxy", `${application.port}`, join(place, "pem.json")]);
  const front = await startFront(place, key, application.port);
  const all = [application, plain, front];
  try {
    const idle = residentMiB(front);
    const hpkeConfig = hpkeConfigOf((await keyPairOf(Buffer.alloc(32, 7))).publicKey);
    const large = new Uint8Array(1 << 20);
    const by = (port: number, body?: Uint8Array) => async (agent: Agent) =>
      (await ask(agent, port, "/", undefined, body)).arrayBuffer();
    const sealed = (body?: Uint8Array<ArrayBuffer>) => async (agent: Agent) => {
      const carry = (bytes: Uint8Array) =>
        ask(agent, front.port, "/.well-known/caisson/tunnel", tunnelTypes.request, bytes);
      const asked = new Request(
        "https://bench.internal/",
        body === undefined ? {} : { method: "POST", body },
      );
      return (await sealedFetch(carry, hpkeConfig, asked)).arrayBuffer();
    };
    const kinds = {
      plain: () => load(plain, by(plain.port)),
      front: () => load(front, by(front.port)),
      sealed: () => load(front, sealed()),
      plainLarge: () => load(plain, by(plain.port, large)),
      sealedLarge: () => load(front, sealed(large)),
    };
    const found: Record<string, { rate: number[]; each: number[] }> = {};
    for (let round = 0; round < rounds; round++) {
      for (const [name, measure] of Object.entries(kinds)) {
        const { rate, each } = await measure();
        found[name] ??= { rate: [], each: [] };
        found[name].rate.push(rate);
        found[name].each.push(each);
      }
    }
    const rate = (name: keyof typeof kinds) => median(found[name]!.rate);
    const each = (name: keyof typeof kinds) => median(found[name]!.each);
    const note = "peer: a plain TLS proxy of the same Node";
    yield {
      name: "channel: 1 KiB over kept connections",
      unit: "/s",
      ours: rate("front"),
      peer: rate("plain"),
      note,
    };
    yield {
      name: "channel: processor time of it",
      unit: "ms",
      ours: each("front"),
      peer: each("plain"),
      note,
    };
    yield {
      name: "channel: 1 KiB through the tunnel, processor time more",
      unit: "ms",
      ours: each("sealed") - each("front"),
      limit: 0.8,
      note: "limit: the target; the front's side alone",
    };
    yield {
      name: "channel: 1 MiB both ways, sealed",
      unit: "/s",
      ours: rate("sealedLarge"),
      peer: rate("plainLarge"),
      note,
    };
    yield {
      name: "channel: front's memory before load",
      unit: "MiB",
      ours: idle,
      limit: 70,
      note: "limit: the target",
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
    };
    for (const socket of sockets) socket.destroy();
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
    note: "limit: the target",
  };
}
