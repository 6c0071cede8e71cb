// SPDX-License-Identifier: Apache-2.0
/** A front before an application of a test, and clients that say to it whatever they like. */
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { buffer, text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { ResponseReader, writeRequest } from "@caisson/protocol/binary-http";
import { beginEhbp, ehbpHeaders, FrameReader, sealFrames } from "@caisson/protocol/ehbp";
import { generateKeyPair } from "@caisson/protocol/hpke-context";
import { beginTunnel, ChunkReader, tunnelTypes } from "@caisson/protocol/tunnel";
import { selfSigned } from "../certificate.ts";
import { createFront, type FrontOptions } from "../server.ts";

export type Application = (request: IncomingMessage, response: ServerResponse) => unknown;

const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
export const certificate = selfSigned(key, ["guest.example", "127.0.0.1"], Date.now());

const listen = async (server: { listen(port: number, host: string): unknown } & NodeJS.EventEmitter) => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server as unknown as { address(): AddressInfo }).address().port;
};

export async function start(t: TestContext, application: Application, options: Partial<FrontOptions> = {}) {
  const behind = createServer((request, response) => void application(request, response));
  const port = await listen(behind);
  const hpke = await generateKeyPair();
  const quotes: string[] = [];
  const front = createFront({
    key: key.export({ format: "pem", type: "pkcs8" }) as string,
    certificate,
    hpke,
    application: { host: "127.0.0.1", port },
    require: "tls",
    attest: async (root) => {
      quotes.push(root.toHex());
      await sleep(300);
      return JSON.stringify({ root: root.toHex() });
    },
    ...options,
  });
  const outer = await listen(front.server);
  t.after(() => {
    front.close();
    behind.closeAllConnections();
    behind.close();
  });
  return { port: outer, application: port, behind, hpke, quotes, front };
}

export interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  raw: string[];
  body: Buffer;
}

export const client = new https.Agent({ keepAlive: false, rejectUnauthorized: false, maxCachedSessions: 0 });

export function ask(
  port: number,
  path: string,
  {
    method = "GET",
    headers = {},
    body,
  }: { method?: string; headers?: object; body?: Uint8Array | string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = https.request(
      { host: "127.0.0.1", port, path, method, headers: headers as Record<string, string>, agent: client },
      (response) => {
        const { statusCode, headers: answered, rawHeaders } = response;
        buffer(response).then(
          (body) => resolve({ status: statusCode!, headers: answered, raw: rawHeaders, body }),
          reject,
        );
      },
    );
    request.once("error", reject);
    request.end(body);
  });
}

/** Answers with what it got. */
export const echo: Application = async (request, response) => {
  const body = await text(request).catch(() => "");
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ method: request.method, url: request.url, raw: request.rawHeaders, body }));
};
export const heard = ({ body }: Answer) =>
  JSON.parse(body.toString()) as { method: string; url: string; raw: string[]; body: string };
export const field = (raw: string[], name: string) =>
  raw.flatMap((one, i) => (i % 2 === 0 && one.toLowerCase() === name ? [raw[i + 1]] : []));

/**
 * What the front says to `bytes`, until it closes the connection, or until `until` is in it; with `forMs` for that long,
 * where a connection may stay open. The limit is for a front that does none of it: nothing passes by it.
 */
export function raw(
  port: number,
  bytes: string | Uint8Array,
  { until, forMs }: { until?: RegExp; forMs?: number } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = "";
    const socket = tls.connect(
      { host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] },
      () => socket.write(bytes),
    );
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(got);
    };
    const late = () => {
      socket.destroy();
      reject(new Error(`the front left the connection open, and said: ${got}`));
    };
    const timer = forMs === undefined ? setTimeout(late, 60_000) : setTimeout(end, forMs);
    socket.on("data", (piece: Buffer) => {
      got += piece.toString("latin1");
      if (until?.test(got)) end();
    });
    socket.once("close", end);
    socket.once("error", end);
  });
}

export async function ehbp(
  port: number,
  publicKey: Uint8Array,
  body: string,
  change: (sent: Uint8Array) => Uint8Array = (sent) => sent,
) {
  const own = await beginEhbp(publicKey);
  const sent = change(await sealFrames(own.context, Buffer.from(body)));
  const answer = await ask(port, "/form", {
    method: "POST",
    headers: { [ehbpHeaders.key]: own.enc.toHex(), "transfer-encoding": "chunked" },
    body: sent,
  });
  const nonce = answer.headers[ehbpHeaders.nonce] as string | undefined;
  if (nonce === undefined) return { answer, own };
  const cipher = await own.answer(Uint8Array.fromHex(nonce));
  const parts: Uint8Array[] = [];
  for (const frame of new FrameReader().push(answer.body)) parts.push(await cipher.open(frame));
  return { answer, own, opened: Buffer.concat(parts).toString() };
}

export async function tunnel(
  port: number,
  publicKey: Uint8Array,
  request: Partial<Parameters<typeof writeRequest>[0]> = {},
  change: (sent: Buffer) => Uint8Array = (sent) => sent,
) {
  const own = await beginTunnel(publicKey);
  const message = writeRequest({
    method: "GET",
    scheme: "https",
    authority: "guest.example",
    path: "/secret?q=canary",
    fields: [],
    content: new Uint8Array(),
    ...request,
  });
  const sent = change(Buffer.concat([own.header, await own.writer.chunks(message), await own.writer.last()]));
  const answer = await ask(port, "/.well-known/caisson/tunnel", {
    method: "POST",
    headers: { "content-type": tunnelTypes.request },
    body: sent,
  });
  if (answer.status !== 200) return { answer, sent };
  const reader = new ChunkReader(await own.answer(answer.body.subarray(0, own.nonceSize)));
  const response = new ResponseReader();
  const parts: Uint8Array[] = [];
  for (const chunk of await reader.push(answer.body.subarray(own.nonceSize)))
    parts.push(...response.push(chunk));
  parts.push(...response.push(await reader.end()));
  response.end();
  return { answer, sent, head: response.head!, opened: Buffer.concat(parts) };
}

/** A connection to the front that speaks HTTP/1.1, or another protocol. */
export async function connected(
  port: number,
  protocol: "h2" | "http/1.1" = "http/1.1",
): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    ALPNProtocols: [protocol],
  });
  await once(socket, "secureConnect");
  return socket;
}
