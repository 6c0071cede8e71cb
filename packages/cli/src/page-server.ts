// SPDX-License-Identifier: Apache-2.0
/**
 * The verifier page on the loopback, beside a machine that runs there: with the machine's own evidence as its first
 * example.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Session } from "@caisson/machine/session";
import type { Example } from "@caisson/page";
import { messageOf } from "@caisson/vocabulary/failure";

/**
 * What an outsider finds of this machine, as files that the page reads; `prediction`: what its image must measure.
 * Throws VerifyError.
 */
export async function exampleOf(session: Session, name: string, prediction: object): Promise<Example> {
  const { bytes, nonce } = await session.evidence();
  const json = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64");
  const { simulatedRoot } = session.policy as { simulatedRoot?: string };
  return {
    name: `${name}, as it runs here`,
    about:
      "Its evidence over a nonce of this session, the policy, what its image must measure, and collateral.",
    at: "",
    nonce: Buffer.from(nonce).toString("hex"),
    ...(simulatedRoot !== undefined && { trust: simulatedRoot }),
    files: [
      { name: "evidence.json", base64: Buffer.from(bytes).toString("base64") },
      { name: "policy.json", base64: json(session.policy) },
      { name: "prediction.json", base64: json(prediction) },
      { name: "collateral.json", base64: json(session.collateral) },
    ],
  };
}

/** Serves a page, which is made when it is first asked for. Resolves with where. */
export async function servePage(make: () => Promise<string>): Promise<{ url: string; close: () => void }> {
  let made: Promise<string> | undefined;
  const server = createServer((request, response) => {
    // Names that lead here from elsewhere (DNS rebinding) are not answered: the page shows this machine's evidence.
    const here = /^(?:127\.0\.0\.1|localhost):\d+$/.test(request.headers.host ?? "");
    if (!here || request.method !== "GET" || request.url !== "/") {
      response.writeHead(404).end("there is nothing here\n");
      return;
    }
    made ??= make();
    made.then(
      (html) =>
        response
          .writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" })
          .end(html),
      (error: unknown) => {
        made = undefined;
        response.writeHead(500).end(`${messageOf(error)}\n`);
      },
    );
  });
  server.headersTimeout = 5_000;
  server.requestTimeout = 10_000;
  server.maxConnections = 16;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  server.unref();
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
