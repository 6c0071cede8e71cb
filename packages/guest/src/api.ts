/**
 * The application's window into its guest: HTTP over the Unix socket `/run/caisson.sock`.
 *
 *   GET  /info                                 who this is
 *   POST /key       {"path", "purpose"}        a key of 32 bytes derived from the released one
 *   POST /evidence  {"nonce": hex}             fresh evidence over report data of scheme `caisson/app/v1`
 *   GET  /live                                 what the guest sees of itself, for audits; development images only
 *
 * Nothing here extends a register. Requests are bounded; a quote is made one at a time, at most `waitingLimit` wait.
 */

import { chmodSync, chownSync, rmSync } from "node:fs";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { reportData } from "@caisson/verify/report-data";
import { firstBytes } from "@caisson/vocabulary/body";
import * as z from "zod/mini";
import { createServer } from "./http.ts";
import { collectLive } from "./live.ts";
import type { Context } from "./stage.ts";

const bodyLimit = 4096;
const waitingLimit = 8;
/** Longer than the longest quote takes. */
const silenceLimitMs = 120_000;
const name = z.string().check(z.regex(/^[\w./-]{1,256}$/));
const keyRequest = z.strictObject({ path: name, purpose: name });
const evidenceRequest = z.strictObject({ nonce: z.string().check(z.regex(/^(?:[0-9a-f]{2}){8,64}$/)) });

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex");

async function body(request: IncomingMessage): Promise<unknown> {
  const { bytes, more } = await firstBytes(request as AsyncIterable<Buffer>, bodyLimit);
  if (more) throw new Refusal(413, `a request has at most ${bodyLimit} bytes`);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Refusal(400, "the request is not JSON");
  }
}

function checked<T>(schema: z.ZodMiniType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refusal(400, `${issue?.path.join(".") || "request"}: ${issue?.message}`);
}

/** What the socket answers; `route` is `"GET /info"` and the like. Throws Refusal. */
async function answer(context: Context, route: string, request: IncomingMessage): Promise<unknown> {
  switch (route) {
    case "GET /info":
      return {
        name: context.config.app.name,
        flavour: context.config.flavour,
        platform: context.platform.name,
        appId: hex(context.appId),
        instanceId: hex(context.instanceId),
        keyProvider: context.keys?.kms ?? null,
        clockAlarm: context.clockAlarm === true,
      };
    case "POST /key": {
      const { path, purpose } = checked(keyRequest, await body(request));
      if (context.keys === undefined) throw new Refusal(404, "this application has no key provider");
      if (context.clockAlarm === true)
        throw new Refusal(503, "keys are frozen: the clock and its sources disagree");
      return { key: hex(deriveApplicationKey(context.keys.root, path, purpose)) };
    }
    case "POST /evidence": {
      const { nonce } = checked(evidenceRequest, await body(request));
      const bound = await reportData("caisson/app/v1", { nonce: Buffer.from(nonce, "hex") });
      return context.attest(bound, { scheme: "caisson/app/v1", fields: { nonce } });
    }
    case "GET /live":
      if (context.config.flavour !== "development")
        throw new Refusal(404, "only a development image tells this");
      return collectLive("/", context.syscalls);
    default:
      throw new Refusal(404, `there is no ${route}`);
  }
}

export interface SocketOwner {
  user: number;
  group: number;
  /** Whether every user of its service may connect: none but its service sees the socket. */
  shared?: boolean;
}

/** Starts serving at `path`, which then belongs to `owner`. A connection on which nothing moves for `silence` is closed. */
export async function serveApplication(
  context: Context,
  path: string,
  owner: SocketOwner,
  silence = silenceLimitMs,
): Promise<Server> {
  let waiting = 0;
  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const reply = (status: number, value: unknown): void => {
      const text = JSON.stringify(value);
      response.writeHead(status, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
      });
      response.end(text);
    };
    if (waiting >= waitingLimit) return reply(429, { error: "too many requests at once" });
    waiting++;
    const closed = new Promise((resolve) => response.once("close", resolve));
    try {
      reply(200, await answer(context, `${request.method} ${request.url}`, request));
    } catch (error) {
      reply(error instanceof Refusal ? error.status : 500, { error: (error as Error).message });
    }
    // An answer that nobody reads lies in PID 1's memory, where the application's limit does not hold.
    await closed;
    waiting--;
  };
  const answering = new WeakSet<Socket>();
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    const { socket } = request;
    // One request at a time on a connection, for the same reason.
    if (answering.has(socket)) return void socket.destroy();
    answering.add(socket);
    response.once("close", () => answering.delete(socket));
    void respond(request, response);
  });
  server.maxConnections = 64;
  server.setTimeout(silence);
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(path, resolve);
  });
  chownSync(path, owner.user, owner.group);
  chmodSync(path, owner.shared === true ? 0o666 : 0o600);
  return server;
}
