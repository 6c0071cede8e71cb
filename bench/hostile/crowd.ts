// SPDX-License-Identifier: Apache-2.0
/**
 * A crowd against a KMS, in a thread of its own: 1,024 addresses of four networks that ask for nonces as fast as they
 * get answers; 4,096 networks that ask for keys, each with a genuine quote over something else, which is what costs a KMS most
 * and its sender least; or 13 addresses of one that hold all connections they can get and say nothing.
 *
 * Loopback has 16 million addresses, so the KMS sees each as another sender.
 */
import { connect } from "node:net";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { keyReleasePaths, keyReleaseVersion } from "@caisson/protocol/key-release";

export type Crowd = "flood" | "ask" | "hold";

/** Begins; the function ends it. `evidence` is what all show that ask for keys. */
export async function startCrowd(
  kind: Crowd,
  url: string,
  evidence: object,
): Promise<() => Promise<unknown>> {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { kind, port: Number(new URL(url).port), evidence: JSON.stringify(evidence) },
    execArgv: [],
  });
  await new Promise((resolve) => worker.once("message", resolve));
  return () => worker.terminate();
}

/** Of a flood, at a time: enough to keep the KMS busy. Who asks for keys takes half of what connections a KMS has. */
const connections = { flood: 64, ask: 256 };

const post = (path: string, body: string) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const hello = post(keyReleasePaths.hello, JSON.stringify({ version: keyReleaseVersion }));

/** A connection that asks as often as its address may, then comes again from the next address. */
function flood(port: number, n: number): void {
  const localAddress = `127.66.${n & 3}.${(n >> 2) & 255}`;
  const socket = connect({ port, host: "127.0.0.1", localAddress }, () => socket.write(hello));
  socket.on("data", (answer) => {
    if (answer.includes(" 429 ")) socket.destroy();
    else socket.write(hello);
  });
  socket.on("error", () => {}).on("close", () => setTimeout(flood, 1, port, n + connections.flood));
}

/** A connection that asks for a nonce and then for keys, and comes again from the next network. */
function ask(port: number, evidence: string, n: number): void {
  const localAddress = `127.${64 + (n & 15)}.${(n >> 4) & 255}.1`;
  const socket = connect({ port, host: "127.0.0.1", localAddress }, () => socket.write(hello));
  socket.on("data", (answer) => {
    const nonce = /"nonce":"([0-9a-f]{64})"/.exec(answer.toString("latin1"))?.[1];
    if (nonce === undefined) return void socket.destroy();
    const about = `"version":"${keyReleaseVersion}","nonce":"${nonce}","ephemeralKey":"${nonce}"`;
    socket.write(post(keyReleasePaths.release, `{${about},"evidence":${evidence}}`));
  });
  socket.on("error", () => {}).on("close", () => setTimeout(ask, 1, port, evidence, n + connections.ask));
}

/** A connection that says nothing, and comes again when it is closed. */
function hold(port: number, localAddress: string): void {
  const socket = connect({ port, host: "127.0.0.1", localAddress });
  socket.resume().on("error", () => {});
  socket.on("close", () => setTimeout(hold, 10, port, localAddress));
}

if (parentPort !== null) {
  const { kind, port, evidence } = workerData as { kind: Crowd; port: number; evidence: string };
  if (kind === "flood") for (let i = 0; i < connections.flood; i++) flood(port, i);
  else if (kind === "ask") for (let i = 0; i < connections.ask; i++) ask(port, evidence, i);
  else for (let i = 0; i < 520; i++) hold(port, `127.77.0.${1 + (i % 13)}`);
  // What comes at once at first is not what a KMS is like under an attack that goes on.
  setTimeout(() => parentPort!.postMessage("under way"), 3000);
}
