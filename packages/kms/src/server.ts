// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS over HTTP: limits first, then schemas, then one decision, then one log line.
 *
 * Invariants: a request costs bounded memory and time before it is known to be worth anything (connections, header
 * and body sizes, rates, timeouts: limits.ts); whatever happens inside becomes a refusal with a code, never a stack
 * trace; of log lines that anybody can cause there are not more than somebody can read.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { messageOf } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { Connections } from "./connections.ts";
import { KmsError } from "./errors.ts";
import { type RouteOptions, routes } from "./http/routes.ts";
import { readRequest, send } from "./http/table.ts";
import { limits } from "./limits.ts";
import { openService, type Service, type ServiceOptions } from "./service.ts";

export interface KmsOptions extends ServiceOptions, RouteOptions {
  /** Port 0 takes a free one. */
  host: string;
  port: number;
}

export interface Kms {
  url: string;
  /** Ed25519 public key, hex: what images pin and guests measure. */
  identityKey: string;
  /**
   * Reads policies and collateral again and puts both in the place of the old ones, or neither: false where something
   * is wrong with them, which the log and the metrics then say.
   */
  reload(): Promise<boolean>;
  /** Lets requests that are under way finish (2 s at most), then closes the log. */
  close(): Promise<void>;
}

/** Starts a KMS and resolves once it listens. Throws KmsError. */
export async function startKms(options: KmsOptions): Promise<Kms> {
  const service = await openService(options);
  const server = serverOf(service, options);
  try {
    await listen(server, options.host, options.port);
  } catch (error) {
    await service.close();
    throw new KmsError("kms/listen", `cannot listen on ${options.host}:${options.port}: ${reasonOf(error)}`, {
      fix: "another port, or end what listens there",
    });
  }
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const url = `http://${host}:${port}`;
  service.started(url);
  let closed: Promise<void> | undefined;
  return {
    url,
    identityKey: service.context.identity.publicKey.toHex(),
    reload: () => service.reload(),
    close: () => (closed ??= service.close(stop(server))),
  };
}

/** Serves `service` within the limits of a connection. Does not listen yet. */
function serverOf(service: Service, options: RouteOptions): Server {
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      requestTimeout: limits.requestMs,
      headersTimeout: limits.requestMs,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: 1000,
    },
    (incoming, outgoing) => {
      const { socket } = incoming;
      // One request at a time on a connection: answers to more would wait in memory until their client reads them.
      if (!connections.begin(socket)) return void socket.destroy();
      outgoing.once("close", () => connections.done(socket));
      answer(readRequest(incoming))
        .then((given) => send(given, outgoing))
        .catch((error) => {
          service.write("failed", { error: messageOf(error) });
          socket.destroy();
        });
    },
  );
  const connections = new Connections(server, {
    total: limits.connections,
    perAddress: (options.perAddress ?? limits.perAddress).burst,
    silentMs: limits.silentMs,
    bodies: limits.bodies,
  });
  const answer = routes(service, options, connections);
  return server;
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const deadline = setTimeout(() => server.closeAllConnections(), limits.shutdownMs);
    // A connection becomes idle when its answer is out; the client would keep it open for another request.
    const sweep = setInterval(() => server.closeIdleConnections(), 20);
    server.close(() => {
      clearTimeout(deadline);
      clearInterval(sweep);
      resolve();
    });
  });
}
