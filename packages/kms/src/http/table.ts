// SPDX-License-Identifier: Apache-2.0
/**
 * What is asked and answered over HTTP, and the table of who answers what.
 *
 * On Node's own server and nothing else: a framework's objects around each request and answer were 4 % of a release.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";

export interface Request {
  incoming: IncomingMessage;
  /** As it was sent, without the query. */
  path: string;
  /** What follows the last slash. */
  last: string;
  query: string;
}

export class Answer {
  readonly status: number;
  readonly body: string | Buffer;
  readonly headers: OutgoingHttpHeaders;

  constructor(status: number, body: string | Buffer, headers: OutgoingHttpHeaders) {
    this.status = status;
    this.body = body;
    this.headers = { ...headers, "content-length": Buffer.byteLength(body) };
  }
}

export const json = (document: unknown, status = 200, headers: OutgoingHttpHeaders = {}): Answer =>
  new Answer(status, JSON.stringify(document), { "content-type": "application/json", ...headers });

/** One that many get: of its bytes, connections whose clients do not read them have no copy each. */
export const shared = ({ status, body, headers }: Answer): Answer =>
  new Answer(status, Buffer.from(body), headers);

type Handler = (request: Request) => Answer | Promise<Answer>;

/** Who answers, by method and path: "GET /v1/policies". A `*` stands for what follows the last slash. */
export type Table = Record<`${"GET" | "POST"} ${string}`, Handler>;

/** Reads where a request goes; a proxy may send the whole address (RFC 9112, section 3.2.2). */
export function readRequest(incoming: IncomingMessage): Request {
  const url = incoming.url ?? "";
  const target = url.startsWith("/") ? url : url.replace(/^https?:\/\/[^/?]*/i, "");
  const end = target.indexOf("?");
  const path = end < 0 ? target : target.slice(0, end);
  return {
    incoming,
    path,
    last: path.slice(path.lastIndexOf("/") + 1),
    query: end < 0 ? "" : target.slice(end + 1),
  };
}

/** Who answers this request; HEAD is GET without the body, which Node leaves out. */
export function finder(table: Table): (request: Request) => Handler | undefined {
  const handlers = new Map(Object.entries(table));
  return ({ incoming, path, last }) => {
    const method = incoming.method === "HEAD" ? "GET" : incoming.method;
    const whole = `${method} ${path}`;
    return handlers.get(whole) ?? handlers.get(`${whole.slice(0, whole.length - last.length)}*`);
  };
}

export function send({ status, headers, body }: Answer, outgoing: ServerResponse): void {
  outgoing.writeHead(status, headers).end(body);
}
