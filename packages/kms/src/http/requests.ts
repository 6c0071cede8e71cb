// SPDX-License-Identifier: Apache-2.0
/** What every route does with a request: reads it, bounded, and refuses it with a code. */
import type { IncomingMessage } from "node:http";
import { type Refusal, requestLimit } from "@caisson/protocol/key-release";
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import type { Connections } from "../connections.ts";
import { limits } from "../limits.ts";
import { Bucket } from "../rate-limit.ts";
import type { Service, WriteLine } from "../service.ts";

export type Environment = { Bindings: HttpBindings };
export type Request = Context<Environment>;
type Status = 400 | 403 | 404 | 409 | 413 | 429 | 500 | 503;

export interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { issues: Issues } };
}
type Issues = readonly { path: readonly PropertyKey[]; message: string }[];

export class Requests {
  readonly #service: Service;
  readonly #connections: Connections;
  readonly #lines: Bucket;
  #suppressed = 0;

  constructor(service: Service, connections: Connections) {
    this.#service = service;
    this.#connections = connections;
    this.#lines = new Bucket(limits.lines, service.context.now());
  }

  address(c: Request): string {
    return c.env.incoming.socket.remoteAddress ?? "unknown";
  }

  /** A line about a request that cost its sender nothing: not more of them than somebody reads. */
  readonly writeSome: WriteLine = (event, fields) => {
    if (!this.#lines.has(this.#service.context.now())) {
      this.#suppressed += 1;
      return;
    }
    this.#lines.take();
    if (this.#suppressed > 0) this.#service.write("suppressed", { lines: this.#suppressed });
    this.#suppressed = 0;
    this.#service.write(event, fields);
  };

  /** An answer outside of any exchange, which therefore cannot be signed. */
  refuse(c: Request, status: Status, code: string, message: string): Response {
    this.#service.metrics.count("refused", `code="${code}"`);
    // Who sends too much does not also fill the log: that is only counted.
    if (status !== 429) {
      this.writeSome("refused", { code, address: this.address(c), path: c.req.path.slice(0, 64) });
    }
    return c.json({ error: { code, message } } satisfies Refusal, status);
  }

  /** What was sent, if it is what it must be; otherwise the refusal. */
  async receive<T>(c: Request, schema: Schema<T>): Promise<T | Response> {
    const { incoming } = c.env;
    const body = await readBody(incoming, (bytes) => this.#connections.hold(incoming.socket, bytes));
    this.#connections.received(incoming.socket);
    if (body === "too long") {
      c.header("connection", "close");
      return this.refuse(c, 413, "http/too-large", `a request has at most ${requestLimit} bytes`);
    }
    const request = schema.safeParse(parseJson(body));
    return request.success
      ? request.data
      : this.refuse(c, 400, "http/malformed", describe(request.error.issues));
  }
}

/**
 * The body, read no further than `requestLimit`; empty where it broke off. `hold` is told what comes into memory. From
 * Node's own stream: the web streams that a Request puts in front of it cost more than reading and parsing.
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
