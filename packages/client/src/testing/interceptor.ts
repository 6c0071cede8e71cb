// SPDX-License-Identifier: Apache-2.0
/** Whoever stands between: ends TLS with a key of its own, keeps everything that it reads, and changes what it likes. */
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { AddressInfo } from "node:net";
import { createServer as createTls, type TLSSocket } from "node:tls";
import { selfSigned } from "@caisson/front/certificate";
import { channelTunnelPath } from "@caisson/vocabulary/paths";

/** What comes in place of an answer (as Latin-1); undefined leaves it. */
export type Change = (answer: string, request: IncomingMessage) => string | undefined;

export interface Interceptor {
  url: string;
  /** Everything that it read, in both directions. */
  record(): string;
  /** From now on. */
  change: Change;
  /** A status in place of those of sealed answers, or no answer to them at all. */
  status?: number | "close";
  close(): void;
}

export async function startInterceptor(to: number, first: Change = () => undefined): Promise<Interceptor> {
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const record: Buffer[] = [];
  const made: Pick<Interceptor, "change" | "status"> = { change: first };
  const inner = createServer((request, response) => {
    const parts: Buffer[] = [];
    record.push(Buffer.from(`${request.method} ${request.url} ${JSON.stringify(request.headers)}`));
    request.on("data", (piece: Buffer) => {
      record.push(piece);
      parts.push(piece);
    });
    request.once("end", () => {
      const onward = httpsRequest(
        {
          host: "127.0.0.1",
          port: to,
          path: request.url!,
          method: request.method!,
          headers: { ...request.headers, connection: "close" },
          rejectUnauthorized: false,
          agent: false,
        },
        (answer) => {
          const got: Buffer[] = [];
          answer.on("data", (piece: Buffer) => got.push(piece));
          answer.once("end", () => {
            const whole = Buffer.concat(got);
            record.push(Buffer.from(JSON.stringify(answer.headers)), whole);
            const changed = made.change(whole.toString("latin1"), request);
            const bytes = changed === undefined ? whole : Buffer.from(changed, "latin1");
            const { connection: _, "transfer-encoding": __, ...headers } = answer.headers;
            const { status } = made;
            if (status !== undefined && request.url === channelTunnelPath) {
              if (status === "close") return void response.destroy();
              return void response.writeHead(status).end(bytes);
            }
            response.writeHead(answer.statusCode!, { ...headers, "content-length": bytes.length });
            response.end(bytes);
          });
        },
      );
      onward.once("error", () => response.destroy());
      onward.end(Buffer.concat(parts));
    });
  });
  const server = createTls(
    {
      key: key.export({ format: "pem", type: "pkcs8" }) as string,
      cert: selfSigned(key, ["127.0.0.1"], Date.now()),
      ALPNProtocols: ["http/1.1"],
    },
    (socket) => inner.emit("connection", socket),
  );
  const open = new Set<TLSSocket>();
  server.on("secureConnection", (socket) => open.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return Object.assign(made, {
    url: `https://127.0.0.1:${port}/`,
    record: () => Buffer.concat(record).toString("latin1"),
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  });
}
