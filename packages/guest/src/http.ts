/**
 * node:http and node:https without what importing them costs. An ES import reads every export of a built-in module,
 * and those of the WebSocket client load all of undici: 30 ms of processor time on a fast machine, a second under
 * emulation, and a WebAssembly parser that PID 1, which runs without a compiler (`--jitless`), could not start.
 * `fetch` needs undici too, and stays unused here for the same reasons.
 */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { firstBytes } from "@caisson/vocabulary/body";

export const { createServer } = process.getBuiltinModule("node:http");

/**
 * POSTs JSON and returns the text of the answer, whatever its status but a redirect's. Bounded: `timeoutMs` in all,
 * `limit` bytes of answer. Throws Error when the server cannot be reached, redirects, or exceeds either.
 */
export async function postJson(url: URL, body: object, limit: number, timeoutMs: number): Promise<string> {
  const { request } = process.getBuiltinModule(url.protocol === "https:" ? "node:https" : "node:http");
  const signal = AbortSignal.timeout(timeoutMs);
  const headers = { "content-type": "application/json" };
  const sending = request(url, { method: "POST", headers, agent: false, signal });
  sending.end(JSON.stringify(body));
  const [response] = (await once(sending, "response")) as [IncomingMessage];
  try {
    const { statusCode = 0 } = response;
    if (statusCode >= 300 && statusCode < 400) throw new Error(`the answer is a redirect (${statusCode})`);
    const { bytes, more } = await firstBytes(response as AsyncIterable<Uint8Array>, limit);
    if (more) throw new RangeError(`the answer is longer than ${limit} bytes`);
    return new TextDecoder().decode(bytes);
  } finally {
    sending.destroy();
  }
}
