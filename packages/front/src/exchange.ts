// SPDX-License-Identifier: Apache-2.0
/** What both versions of HTTP have in common here: reading a request's parts, and answering it. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { livePath } from "@caisson/vocabulary/paths";

/** HTTP/2's of Node have the same members, as far as they are used here. */
export type Request = IncomingMessage;
export type Response = ServerResponse;

/** A request that is not passed on, and what its client is told. */
export class FrontRefusal extends Error {
  readonly status: number;
  /** A problem type (RFC 9457), where clients tell refusals apart by it. */
  readonly type: string | undefined;
  constructor(status: number, message: string, type?: string) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

const hostPattern = /^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;
const methodPattern = /^[A-Z]{1,32}$/;
// oxlint-disable-next-line no-control-regex -- those are what it refuses
const pathPattern = /^\/[^\s\x00-\x1f\x7f#]*$/;

/** More fields than these are refused. */
export const headFields = 128;

/** Below where the front answers, whatever an application would; `path` with or without a query. */
export function isOurs(path: string): boolean {
  const [plain] = path.split("?", 1) as [string];
  return plain.startsWith("/.well-known/caisson/") && plain !== livePath;
}

/** Method, path and host, each what it may be. Throws FrontRefusal. */
export function target(request: Request): { method: string; path: string; host: string } {
  const { method = "", url = "", rawHeaders } = request;
  if (rawHeaders.length > 2 * headFields) throw new FrontRefusal(431, "too many fields");
  const hosts: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    if (name === "host" || name === ":authority") hosts.push(rawHeaders[i + 1]!);
  }
  const [host = ""] = hosts;
  if (new Set(hosts).size !== 1 || (request.httpVersionMajor === 1 && hosts.length !== 1)) {
    throw new FrontRefusal(400, "a request names one host");
  }
  return checkedTarget(method, url, host);
}

/** The same for parts that came sealed. Throws FrontRefusal. */
export function checkedTarget(method: string, path: string, host: string) {
  if (!hostPattern.test(host)) throw new FrontRefusal(400, "the host is not one");
  if (!methodPattern.test(method) || method === "CONNECT")
    throw new FrontRefusal(400, "the method is not one");
  if (!pathPattern.test(path)) throw new FrontRefusal(400, "the path is not one");
  return { method, path, host };
}

/** The value of a field that a request has at most once; undefined without. Throws FrontRefusal. */
export function single({ rawHeaders }: Request, wanted: string): string | undefined {
  let found: string | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== wanted) continue;
    if (found !== undefined) throw new FrontRefusal(400, `${wanted} is there twice`);
    found = rawHeaders[i + 1]!;
  }
  return found;
}

/** How long a request's body says that it is: undefined without one, `size` undefined where only its end will tell. */
export function bodyOf(request: Request): { size: number | undefined } | undefined {
  const length = single(request, "content-length");
  if (length !== undefined) return length === "0" ? undefined : { size: Number(length) };
  if (request.httpVersionMajor === 1) {
    return single(request, "transfer-encoding") === undefined ? undefined : { size: undefined };
  }
  const { stream } = request as unknown as Http2ServerRequest;
  return stream.endAfterHeaders ? undefined : { size: undefined };
}

/** Any page may ask: nothing of what the front itself answers depends on who does. */
export const openToPages = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "*",
} as const;

export function reply(
  response: Response,
  status: number,
  type: string,
  content: string | Uint8Array,
  headers: Record<string, string> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const all = {
    "content-type": type,
    "content-length": `${bytes.length}`,
    "cache-control": "no-store",
    ...headers,
  };
  response.writeHead(status, all);
  response.end(bytes);
}

export function refuse(response: Response, { status, message, type }: FrontRefusal): void {
  const problem = { type: type ?? "about:blank", title: message, status };
  reply(response, status, "application/problem+json", `${JSON.stringify(problem)}\n`, openToPages);
}

/** Writes, and waits where the client is slower. Throws when the client is gone. */
export async function write(response: Response, bytes: Uint8Array): Promise<void> {
  if (response.destroyed) throw new Error("the client is gone");
  if (response.write(bytes)) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (done: () => void) => {
      response.removeListener("drain", drained);
      response.removeListener("close", closed);
      done();
    };
    const drained = () => settle(resolve);
    const closed = () => settle(() => reject(new Error("the client is gone")));
    response.once("drain", drained);
    response.once("close", closed);
  });
}
