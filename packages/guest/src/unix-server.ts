// SPDX-License-Identifier: Apache-2.0
/**
 * HTTP with JSON over a Unix socket of PID 1's: what a service sees of its guest. Requests are bounded, one on a
 * connection and `waitingLimit` at once; answers have a length and are ASCII, which the simplest clients can read.
 */
import { chmodSync, chownSync, rmSync } from "node:fs";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { firstBytes } from "@caisson/vocabulary/body";
import { createServer } from "./http.ts";

const waitingLimit = 8;
/** Longer than the longest quote takes. */
const silenceLimitMs = 120_000;

/** A request that gets no answer, and the status that says so. */
export class Refused extends Error {
  readonly status: number;
  /** Whether it is said without JSON around it, for clients that take any JSON for success. */
  readonly plainly: boolean;
  constructor(status: number, message: string, plainly = false) {
    super(message);
    this.status = status;
    this.plainly = plainly;
  }
}

/** The body of a request, which is JSON of at most `limit` bytes. Throws Refused. */
export async function readJson(request: IncomingMessage, limit: number): Promise<unknown> {
  const { bytes, more } = await firstBytes(request as AsyncIterable<Buffer>, limit);
  if (more) throw new Refused(413, `a request has at most ${limit} bytes`);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Refused(400, "the request is not JSON");
  }
}

export interface SocketOwner {
  user: number;
  group: number;
  /** Whether every user of its service may connect: none but its service sees the socket. */
  shared?: boolean;
  /** Called for each connection. */
  called?(): void;
}

const ascii = (text: string): string =>
  text.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

/**
 * Starts serving at `path`, which then belongs to `owner`; what `answer` throws is said with its status, or 500. A
 * connection on which nothing moves for `silence` (ms) is closed.
 */
export async function serveJson(
  path: string,
  owner: SocketOwner,
  answer: (request: IncomingMessage) => Promise<unknown>,
  silence = silenceLimitMs,
): Promise<Server> {
  let waiting = 0;
  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const reply = (status: number, text: string, type = "application/json"): void => {
      const length = Buffer.byteLength(text);
      response.writeHead(status, { "content-type": type, "content-length": length, connection: "close" });
      response.end(text);
    };
    const json = (value: unknown): string => ascii(JSON.stringify(value));
    if (waiting >= waitingLimit) return reply(429, json({ error: "too many requests at once" }));
    waiting++;
    const closed = new Promise((resolve) => response.once("close", resolve));
    try {
      reply(200, json(await answer(request)));
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof Refused && error.plainly) reply(error.status, `${message}\n`, "text/plain");
      else reply(error instanceof Refused ? error.status : 500, json({ error: message }));
    }
    // An answer that nobody reads lies in PID 1's memory, where the application's limit does not hold.
    await closed;
    waiting--;
  };
  const answering = new WeakSet<Socket>();
  // A client that blocks its event loop may be late with its request, and does not see that a kept connection was closed.
  const patience = { requestTimeout: silence, headersTimeout: silence };
  const server = createServer(patience, (request, response) => {
    const { socket } = request;
    // One request on a connection, for the same reason.
    if (answering.has(socket)) return void socket.destroy();
    answering.add(socket);
    void respond(request, response);
  });
  server.maxConnections = 64;
  server.setTimeout(silence);
  server.on("connection", () => owner.called?.());
  // What is closed at once because there are too many costs, too.
  server.on("drop", () => owner.called?.());
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(path, resolve);
  });
  chownSync(path, owner.user, owner.group);
  chmodSync(path, owner.shared === true ? 0o666 : 0o600);
  return server;
}
