// SPDX-License-Identifier: Apache-2.0
/** A man in the middle between a guest and its KMS: sees every request and answer, and may change both. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

type Json = Record<string, unknown>;

export interface Tampering {
  /** Gets the path and the guest's request; returns what the KMS gets. */
  request?: (path: string, body: Json) => Json;
  /** Gets the path and the KMS's answer; returns what the guest gets. */
  answer?: (path: string, body: Json) => Json;
}

/** Listens on a free port of loopback and passes everything on to `kms`. */
export async function manInTheMiddle(kms: string, { request, answer }: Tampering) {
  const pass = async (path: string, sent: Buffer): Promise<Json> => {
    const body = JSON.parse(sent.toString("utf8")) as Json;
    const response = await fetch(new URL(path, kms), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request?.(path, body) ?? body),
    });
    const received = (await response.json()) as Json;
    return answer?.(path, received) ?? received;
  };
  const server = createServer((incoming, outgoing) => {
    void buffer(incoming)
      .then((sent) => pass(incoming.url!, sent))
      .then((body) =>
        outgoing.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body)),
      )
      .catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}
