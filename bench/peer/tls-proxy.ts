// SPDX-License-Identifier: Apache-2.0
/**
 * The peer of the channel's benchmark: the plainest TLS proxy that Node can be, and the application behind both. Run as
 * `node tls-proxy.ts proxy PORT SETUP` (PEM of key and certificate as JSON) or `node tls-proxy.ts application`.
 */
import { readFileSync } from "node:fs";
import { Agent, createServer, request as httpRequest } from "node:http";
import { createServer as createTls } from "node:https";
import type { AddressInfo } from "node:net";

const [, , what, port, setup] = process.argv;
const say = (server: { address(): unknown }) =>
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);

if (what === "application") {
  const small = Buffer.alloc(1024, "x");
  const server = createServer((request, response) => {
    if (request.method === "POST") return void request.pipe(response);
    response.writeHead(200, { "content-length": small.length });
    response.end(small);
  });
  // Longer than the pauses between rounds.
  server.keepAliveTimeout = 120_000;
  server.listen(0, "127.0.0.1", () => say(server));
} else {
  const agent = new Agent({ keepAlive: true });
  const server = createTls(
    { ...JSON.parse(readFileSync(setup!, "utf8")), minVersion: "TLSv1.3" },
    (request, response) => {
      const { method, url: path, headers } = request;
      const onward = httpRequest({ host: "127.0.0.1", port, method, path, headers, agent }, (answer) => {
        response.writeHead(answer.statusCode!, answer.rawHeaders);
        answer.pipe(response);
      });
      request.pipe(onward);
    },
  );
  server.listen(0, "127.0.0.1", () => say(server));
}
