// SPDX-License-Identifier: Apache-2.0
/**
 * A log, or a witness, over HTTP. A log serves its files as they are and takes documents; who may send some is for what
 * stands in front of it: a document that no owners signed is refused whoever sends it.
 *
 *     GET  /checkpoint, /tile/…, /envelope/<hash>
 *     POST /add             { kind, app, envelope } → { index }
 *     POST /add-checkpoint  of a witness
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type EntryKind, entryKinds, ReleaseError, readEnvelope } from "@caisson/releases";
import { firstBytes } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import { hex, object, oneOf, SchemaError } from "@caisson/vocabulary/schema";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { LogServiceError } from "./errors.ts";
import { readIfThere } from "./files.ts";
import type { Witness } from "./witness.ts";
import type { LogWriter } from "./writer.ts";

export interface LogServer {
  url: string;
  close(): Promise<void>;
}

const bodyLimit = 256 * 1024;
const requestMs = 10_000;

interface Answer {
  status: number;
  body: string | Uint8Array;
  type?: string;
}

const json = (status: number, value: object): Answer => ({
  status,
  body: `${JSON.stringify(value)}\n`,
  type: "application/json",
});
const nothing: Answer = { status: 404, body: "there is nothing here\n" };

type Respond = (method: string, path: string, body: () => Promise<string | undefined>) => Promise<Answer>;

const addition = object({
  kind: oneOf(...entryKinds),
  app: hex(32),
  envelope: (value: unknown) => value,
});

/** Serves a log from its directory, and takes documents for it. Throws LogServiceError "log-service/listen". */
export function serveLog(
  writer: LogWriter,
  directory: string,
  host: string,
  port: number,
): Promise<LogServer> {
  return listen(host, port, async (method, path, body) => {
    if (method === "GET") return readFile(directory, path);
    if (method !== "POST" || path !== "/add") return nothing;
    const text = await body();
    if (text === undefined) return json(413, { error: { code: "http/too-large", message: "too long" } });
    try {
      const { kind, app, envelope } = addition(JSON.parse(text));
      const index = await writer.add(kind as EntryKind, app, readEnvelope(envelope));
      return json(200, { index });
    } catch (error) {
      if (error instanceof ReleaseError) {
        return json(422, { error: { code: error.code, message: error.message } });
      }
      if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
      return json(400, { error: { code: "http/malformed", message: error.message } });
    }
  });
}

/** What is public of a log's directory, by exact form: nothing else can be named. */
const publicFile =
  /^\/(?:checkpoint|envelope\/[0-9a-f]{64}|tile\/(?:\d{1,2}|entries)(?:\/x\d{3})*\/\d{3}(?:\.p\/\d{1,3})?)$/;

function readFile(directory: string, path: string): Answer {
  if (!publicFile.test(path)) return nothing;
  const bytes = readIfThere(join(directory, path));
  return bytes === undefined ? nothing : { status: 200, body: bytes };
}

/** Serves a witness. Throws LogServiceError "log-service/listen". */
export function serveWitness(witness: Witness, host: string, port: number): Promise<LogServer> {
  return listen(host, port, async (method, path, body) => {
    if (method !== "POST" || path !== "/add-checkpoint") return nothing;
    const text = await body();
    if (text === undefined) return { status: 400, body: "too long\n" };
    const answer = await witness.add(text);
    return { ...answer, type: answer.status === 409 ? "text/x.tlog.size" : "text/plain" };
  });
}

async function listen(host: string, port: number, respond: Respond): Promise<LogServer> {
  const limits = { requestTimeout: requestMs, headersTimeout: requestMs, connectionsCheckingInterval: 1000 };
  const server = createServer({ ...limits, maxHeaderSize: 8192 }, (request, response) => {
    void answer(request, response, respond);
  });
  server.maxConnections = 512;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    throw new LogServiceError("log-service/listen", `cannot listen on ${host}:${port}: ${reasonOf(error)}`, {
      fix: "another port, or end what listens there",
    });
  }
  const { port: own } = server.address() as AddressInfo;
  return { url: `http://${host.includes(":") ? `[${host}]` : host}:${own}/`, close: () => end(server) };
}

async function answer(request: IncomingMessage, response: ServerResponse, respond: Respond): Promise<void> {
  const body = async (): Promise<string | undefined> => {
    const { bytes, more } = await firstBytes(request, bodyLimit);
    return more ? undefined : new TextDecoder().decode(bytes);
  };
  let found: Answer;
  try {
    found = await respond(request.method ?? "", request.url ?? "", body);
  } catch (error) {
    process.stderr.write(`${JSON.stringify({ event: "failed", message: messageOf(error) })}\n`);
    found = { status: 500, body: "this server failed on this request\n" };
  }
  response.writeHead(found.status, { "content-type": found.type ?? "application/octet-stream" });
  response.end(found.body);
}

function end(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
