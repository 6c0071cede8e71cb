// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that recovers a root secret: it serves nothing but its attestation, and takes keepers' shares, until it has enough.
 *
 *     GET  /v1/attestation?nonce=HEX   evidence of this guest, bound to the key to seal shares to
 *     POST /v1/shares                  a share that was sealed to that key; says how many there are
 *
 * Invariants: the key is made here and ends with this; a share is compared with its commitment as it comes, so that a wrong
 * one is named and changes nothing; what anybody can send is bounded in size, time and number.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { generateSealingKey, type SealingKey } from "@caisson/protocol/hpke";
import { firstBytes } from "@caisson/vocabulary/body";
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import { attest, attestationPath } from "./attestation.ts";
import { Connections } from "./connections.ts";
import { checkSealed, recoverSecret, type SharesDocument, sharesPath } from "./shares.ts";

export interface RecoveryOptions {
  document: SharesDocument;
  /** Evidence of this guest, over 32 bytes. */
  attest: (nonce: Uint8Array) => Promise<unknown>;
  host: string;
  port: number;
  log?: (line: string) => void;
}

const limits = { body: 8 * 1024, requestMs: 10_000 };
/** Whoever holds most gives way, so that nobody keeps keepers out alone. */
const connectionLimits = { total: 32, perAddress: 8, silentMs: 2_000, bodies: 32 * limits.body };

/** Serves until enough keepers gave their shares; the root secret (32 bytes). Throws KmsError. */
export async function recoverFromKeepers(options: RecoveryOptions): Promise<Uint8Array> {
  const { document, log } = options;
  const own = generateSealingKey();
  const given = new Map<string, string>();
  const { promise: enough, resolve } = Promise.withResolvers<void>();
  const server = createServer(
    {
      requestTimeout: limits.requestMs,
      headersTimeout: limits.requestMs,
      keepAlive: false,
      connectionsCheckingInterval: 1000,
    },
    (request, response) => {
      const { socket } = request;
      if (!connections.begin(socket)) return void socket.destroy();
      response.once("close", () => connections.done(socket));
      const received = () => connections.received(socket);
      void answer(options, own, given, request, response, received).then(() => {
        if (given.size >= document.threshold) resolve();
      });
    },
  );
  const connections = new Connections(server, connectionLimits);
  await new Promise<void>((listening, failed) => {
    server.once("error", failed).listen(options.port, options.host, listening);
  });
  log?.(
    JSON.stringify({ event: "recovering", identityKey: document.identityKey, key: own.publicKey.toHex() }),
  );
  await enough;
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
  return recoverSecret(document, own, [...given.values()]);
}

async function answer(
  { document, attest: evidence, log }: RecoveryOptions,
  own: SealingKey,
  given: Map<string, string>,
  request: IncomingMessage,
  response: ServerResponse,
  received: () => void,
): Promise<void> {
  const say = (status: number, body: object) =>
    new Promise<void>((sent) => {
      response.writeHead(status, { "content-type": "application/json", connection: "close" });
      response.end(JSON.stringify(body), sent).once("close", sent);
    });
  try {
    const [, nonce] = /^\/v1\/attestation\?nonce=([0-9a-f]{64})$/.exec(request.url ?? "") ?? [];
    if (request.method === "GET" && nonce !== undefined) {
      received();
      return await say(
        200,
        await attest("caisson/kms-recovery/v1", Uint8Array.fromHex(nonce), own.publicKey, evidence),
      );
    }
    if (request.method !== "POST" || request.url !== sharesPath) {
      const message = `this KMS recovers: GET ${attestationPath}?nonce=…, POST ${sharesPath}`;
      return await say(404, { error: { code: "http/not-found", message } });
    }
    const { bytes, more } = await firstBytes(request as AsyncIterable<Buffer>, limits.body);
    received();
    if (more) return await say(413, { error: { code: "http/too-large", message: "a share is not as long" } });
    const content = new TextDecoder().decode(bytes);
    const keeper = checkSealed(document, own, content);
    given.set(keeper, content);
    log?.(JSON.stringify({ event: "share", keeper, given: given.size, needed: document.threshold }));
    await say(200, { given: given.size, needed: document.threshold });
  } catch (error) {
    const code = error instanceof Failure ? error.code : "http/internal";
    const message = error instanceof Failure ? messageOf(error) : "the KMS failed on this request";
    await say(error instanceof Failure ? 400 : 500, { error: { code, message } });
  }
}
