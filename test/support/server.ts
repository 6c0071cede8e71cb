// SPDX-License-Identifier: Apache-2.0
/** An HTTP server on loopback that serves files from memory, and can misbehave as a test wants. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface TestServer {
  /** "http://127.0.0.1:PORT" */
  url: string;
  /** Files by their path without the leading slash; may be changed at any time. */
  files: Map<string, Uint8Array>;
  /** Every request so far: "GET /path", with its Range. */
  requests: { path: string; range: string | undefined }[];
  /** Answers a request instead of the file; false leaves it to the server. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

/** Serves with Range requests, as mirrors do. */
export async function serve(files = new Map<string, Uint8Array>()): Promise<TestServer> {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url!.slice(1));
    const { range } = request.headers;
    self.requests.push({ path, range });
    if (self.intercept(request, response)) return;
    const bytes = self.files.get(path);
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    if (bytes === undefined) response.writeHead(404).end("not found");
    else if (from > 0) {
      const part = bytes.subarray(from);
      response.writeHead(206, {
        "content-length": part.length,
        "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
      });
      response.end(part);
    } else response.writeHead(200, { "content-length": bytes.length }).end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const self: TestServer = {
    url: `http://127.0.0.1:${port}`,
    files,
    requests: [],
    intercept: () => false,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return self;
}
