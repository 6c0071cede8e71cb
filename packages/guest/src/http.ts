// SPDX-License-Identifier: Apache-2.0
/**
 * node:http and node:https without what importing them costs. An ES import reads every export of a built-in module,
 * and those of the WebSocket client load all of undici: 30 ms of processor time on a fast machine, a second under
 * emulation, and a WebAssembly parser that PID 1, which runs without a compiler (`--jitless`), could not start.
 * `fetch` needs undici too, and stays unused here for the same reasons.
 */
import type {
  Agent,
  ClientRequest,
  IncomingMessage,
  RequestListener,
  Server,
  ServerOptions,
} from "node:http";
import { firstBytes } from "@caisson/vocabulary/body";
import { withLimit } from "./limit.ts";

/** `createServer` of node:http, which is loaded by the first server or request. */
export const createServer = (options: ServerOptions, listener: RequestListener): Server =>
  process.getBuiltinModule("node:http").createServer(options, listener);

const clientFor = (url: URL) =>
  process.getBuiltinModule(url.protocol === "https:" ? "node:https" : "node:http");

/** Keeps one connection to a server for the next request, for `idleMs` or as long as the server wants it. */
export function keepConnection(url: URL, idleMs: number): Agent {
  const { Agent: Keeper } = clientFor(url);
  return new Keeper({ keepAlive: true, maxSockets: 1, timeout: idleMs });
}

/**
 * POSTs JSON and returns the text of the answer, whatever its status but a redirect's. Bounded: `timeoutMs` in all, by
 * a timer of its own and not by what the request does, `limit` bytes of answer. Throws Error when the server cannot be
 * reached, redirects, wants another protocol (101), or exceeds either. `kept`: from `keepConnection`; where the server
 * has closed that connection meanwhile, the request is made once more on a new one.
 */
export async function postJson(
  url: URL,
  body: object,
  limit: number,
  timeoutMs: number,
  kept: Agent | false = false,
): Promise<string> {
  const { request } = clientFor(url);
  const headers = { "content-type": "application/json" };
  // PID 1 runs without Node's default authorities (`--use-openssl-ca`).
  const ca =
    url.protocol === "https:" ? { ca: [...process.getBuiltinModule("node:tls").rootCertificates] } : {};
  const sending = request(url, { method: "POST", headers, agent: kept, ...ca });
  const answer = response(sending).then((found) => text(found, limit));
  sending.end(JSON.stringify(body));
  try {
    return await withLimit(answer, timeoutMs, () => new Error(`no answer within ${timeoutMs / 1000} s`));
  } catch (error) {
    if (!sending.reusedSocket || (error as NodeJS.ErrnoException).code !== "ECONNRESET") throw error;
    return await postJson(url, body, limit, timeoutMs);
  } finally {
    sending.destroy();
  }
}

/** The response to a request, or the rejection that says what came in its place: there is always one of them. */
function response(sending: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sending.on("error", reject);
    sending.once("response", resolve);
    // With 101, Node hands over the connection, gives up the request without an error, and never times out.
    sending.once("upgrade", (_, socket) => {
      socket.destroy();
      reject(new Error("the server wants another protocol (101)"));
    });
    sending.once("close", () => reject(new Error("the connection was closed before there was an answer")));
  });
}

async function text(answer: IncomingMessage, limit: number): Promise<string> {
  const { statusCode = 0 } = answer;
  if (statusCode >= 300 && statusCode < 400) throw new Error(`the answer is a redirect (${statusCode})`);
  const { bytes, more } = await firstBytes(answer as AsyncIterable<Uint8Array>, limit);
  if (more) throw new RangeError(`the answer is longer than ${limit} bytes`);
  return new TextDecoder().decode(bytes);
}
