// SPDX-License-Identifier: Apache-2.0
/** What every route does with a request: reads it, bounded, and refuses it with a code. */
import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";
import { type Refusal, requestLimit } from "@caisson/protocol/key-release";
import { Batcher } from "../batcher.ts";
import type { Connections } from "../connections.ts";
import { limits } from "../limits.ts";
import { Bucket } from "../rate-limit.ts";
import type { Service, WriteLine } from "../service.ts";
import { Answer, json, type Request } from "./table.ts";

type Status = 400 | 403 | 404 | 409 | 413 | 429 | 500 | 503;

export interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: Issues } };
}
type Issues = readonly { path: readonly PropertyKey[]; message: string }[];

/** Requests that are answered in one turn of the event loop: others' bytes are read between two. */
const batchSize = 64;
/** Between two such turns. */
const pace = { least: 1, most: 30 };

export class Requests {
  readonly #service: Service;
  readonly #connections: Connections;
  readonly #lines: Bucket;
  #suppressed = 0;
  /** Requests that have been read, each of which goes on when it is called. */
  readonly #read = new Batcher<() => void>(batchSize, pace, (batch) => {
    for (const goOn of batch) goOn();
  });

  constructor(service: Service, connections: Connections) {
    this.#service = service;
    this.#connections = connections;
    this.#lines = new Bucket(limits.lines, service.context.elapsed());
  }

  address({ incoming }: Request): string {
    return incoming.socket.remoteAddress ?? "unknown";
  }

  /** A line about a request that cost its sender nothing: not more of them than somebody reads. */
  readonly writeSome: WriteLine = (event, fields) => {
    if (!this.#lines.has(this.#service.context.elapsed())) {
      this.#suppressed += 1;
      return;
    }
    this.#lines.take();
    if (this.#suppressed > 0) this.#service.write("suppressed", { lines: this.#suppressed });
    this.#suppressed = 0;
    this.#service.write(event, fields);
  };

  /** An answer outside of any exchange, which therefore cannot be signed. */
  refuse(
    request: Request,
    status: Status,
    code: string,
    message: string,
    headers: OutgoingHttpHeaders = {},
  ): Answer {
    this.#service.metrics.count("refused", `code="${code}"`);
    // Who sends too much does not also fill the log: that is only counted.
    if (status !== 429) {
      this.writeSome("refused", { code, address: this.address(request), path: request.path.slice(0, 64) });
    }
    return json({ error: { code, message } } satisfies Refusal, status, headers);
  }

  /** The nonce (32 bytes) that the query has; otherwise the refusal. */
  nonce(request: Request): Uint8Array | Answer {
    const nonce = new URLSearchParams(request.query).get("nonce") ?? "";
    return /^[0-9a-f]{64}$/.test(nonce)
      ? Uint8Array.fromHex(nonce)
      : this.refuse(request, 400, "http/malformed", "nonce: 32 bytes in lower-case hexadecimal");
  }

  /** What was sent, if it is what it must be; otherwise the refusal. */
  async receive<T>(request: Request, schema: Schema<T>): Promise<T | Answer> {
    const { incoming } = request;
    const body = await readBody(incoming, (bytes) => this.#connections.hold(incoming.socket, bytes));
    this.#connections.received(incoming.socket);
    if (body === "too long") {
      const message = `a request has at most ${requestLimit} bytes`;
      return this.refuse(request, 413, "http/too-large", message, { connection: "close" });
    }
    await new Promise<void>((goOn) => this.#read.add(goOn));
    const read = schema.safeParse(parseJson(body));
    return read.success
      ? read.data
      : this.refuse(request, 400, "http/malformed", describe(read.error.issues));
  }
}

/**
 * The body, read no further than `requestLimit`; empty where it broke off. `hold` is told what comes into memory.
 */
function readBody(incoming: IncomingMessage, hold: (bytes: number) => void): Promise<Buffer | "too long"> {
  return new Promise((resolve) => {
    if (Number(incoming.headers["content-length"]) > requestLimit) resolve("too long");
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > requestLimit) return resolve("too long");
      chunks.push(chunk);
      hold(chunk.length);
    });
    incoming.once("end", () => resolve(Buffer.concat(chunks)));
    incoming.once("close", () => resolve(Buffer.alloc(0)));
    incoming.once("error", () => resolve(Buffer.alloc(0)));
  });
}

/** undefined, which no schema takes, where it is not JSON. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

function describe(issues: Issues): string {
  const [issue] = issues;
  return `the request: ${issue?.path.join(".") || "the whole body"}: ${issue?.message}`.slice(0, 300);
}
