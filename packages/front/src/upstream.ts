// SPDX-License-Identifier: Apache-2.0
/**
 * The application behind the front: HTTP/1.1 over connections that are kept. What is sent is made here from parts, never
 * copied, so that no client decides where a request ends.
 */

import type { Agent, ClientRequest, IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Response } from "./exchange.ts";

const http = process.getBuiltinModule("node:http");

export interface Target {
  host: string;
  port: number;
}

export interface Outgoing {
  method: string;
  path: string;
  /** Without any that says how long the body is. */
  headers: string[];
  /** `size` undefined: not known before its end. */
  body?: { size: number | undefined; content: Readable | Uint8Array };
}

/** A generation of text may take minutes to begin. */
const silenceMs = 600_000;

/** The application gave no answer that could be passed on. */
export class NoAnswer extends Error {}
/** As many requests as there may be are at the application: one more would wait for nobody knows how long. */
export class Full extends Error {}

export class Upstream {
  readonly #agent: Agent;
  readonly #target: Target;
  readonly #most: number;
  #open = 0;

  /** `requests` at once; streams that never end are among them. */
  constructor(target: Target, requests: number) {
    this.#most = requests;
    this.#target = target;
    // The time limit of a request is the connections' own, so that none of them sets it anew.
    const timeout = silenceMs;
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: requests, maxFreeSockets: 64, timeout });
  }

  /** The answer's beginning. A `client` that goes away ends the request, and the answer. Throws NoAnswer, Full. */
  async ask(outgoing: Outgoing, client: Response): Promise<IncomingMessage> {
    for (let again = false; ; again = true) {
      const request = this.start(outgoing);
      const end = () => {
        if (!client.writableFinished) request.destroy();
      };
      client.once("close", end);
      try {
        return await answered(request);
      } catch (error) {
        client.removeListener("close", end);
        // It closed the connection while this was on its way: without a body, nothing was lost.
        const { code } = error as NodeJS.ErrnoException;
        const isStale = request.reusedSocket && (code === "ECONNRESET" || code === "EPIPE");
        if (isStale && outgoing.body === undefined && !again && !client.destroyed) continue;
        throw new NoAnswer(messageOf(error), { cause: error });
      }
    }
  }

  /** The request, on its way. Throws Full. */
  start({ method, path, headers, body }: Outgoing): ClientRequest {
    if (this.#open >= this.#most) throw new Full("too many requests are at the application");
    const length =
      body === undefined
        ? []
        : body.size === undefined
          ? ["Transfer-Encoding", "chunked"]
          : ["Content-Length", `${body.size}`];
    const { host, port } = this.#target;
    const request = http.request({
      agent: this.#agent,
      host,
      port,
      method,
      path,
      headers: [...headers, ...length] as unknown as Record<string, string>,
      setHost: false,
      timeout: silenceMs,
    });
    this.#open++;
    request.once("close", () => {
      this.#open--;
    });
    request.on("timeout", () => request.destroy(new Error("the application is silent")));
    if (body === undefined) request.end();
    else if (body.content instanceof Uint8Array) request.end(body.content);
    else {
      body.content.once("error", (error) => request.destroy(error));
      body.content.once("close", () => {
        if (!(body.content as Readable).readableEnded) request.destroy(new Error("the client is gone"));
      });
      body.content.pipe(request);
    }
    return request;
  }

  close(): void {
    this.#agent.destroy();
  }
}

function answered(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once("response", resolve);
    request.on("error", reject);
    request.once("upgrade", (_, socket) => {
      socket.destroy();
      reject(new Error("the application wants another protocol"));
    });
    request.once("close", () => reject(new Error("the application closed the connection")));
  });
}
