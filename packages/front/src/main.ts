// SPDX-License-Identifier: Apache-2.0
/**
 * The front's process. Its three descriptors come from PID 1: the setup to read, the socket that listens, and where it may
 * say something, which is never about a request.
 */
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { encodeReport } from "@caisson/protocol/certificate-report";
import {
  type ChannelQuestion,
  channelPath,
  channelSocketPath,
  frontListens,
  readFrontSetup,
} from "@caisson/protocol/front-setup";
import { keyPairOf } from "@caisson/protocol/hpke-context";
import { firstBytes } from "@caisson/vocabulary/body";
import { limits } from "@caisson/vocabulary/limits";
import { keepCertificate } from "./acme.ts";
import { selfSigned } from "./certificate.ts";
import { createFront } from "./server.ts";

const http = process.getBuiltinModule("node:http");

const [setupDescriptor, listening] = [0, 1];
const quoteLimitMs = 100_000;

// Node looks at standard output wherever streams are joined, and would open the socket that listens as one.
Object.defineProperty(process, "stdout", { value: process.stderr });

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** PID 1's answer, as it came. */
function attest(root: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.request({
      socketPath: channelSocketPath,
      method: "POST",
      path: channelPath,
      timeout: quoteLimitMs,
      headers: { "content-type": "application/json" },
    });
    request.on("timeout", () => request.destroy(new Error("PID 1 does not answer")));
    request.on("error", reject);
    request.once("response", (answer) => {
      firstBytes(answer, limits.document).then(({ bytes }) => {
        const text = new TextDecoder().decode(bytes);
        if (answer.statusCode === 200) resolve(text);
        else reject(new Error("the guest got no quote"));
      }, reject);
    });
    request.end(JSON.stringify({ nonceRoot: root.toHex() } satisfies ChannelQuestion));
  });
}

const setup = readFrontSetup(readFileSync(setupDescriptor, "utf8"));
const key = createPrivateKey({ key: Buffer.from(setup.tlsKey, "base64"), format: "der", type: "pkcs8" });
const front = createFront({
  key: key.export({ format: "pem", type: "pkcs8" }) as string,
  certificate: selfSigned(key, setup.names, Date.now()),
  hpke: await keyPairOf(Buffer.from(setup.hpkeKey, "base64")),
  application: setup.application,
  require: setup.require,
  attest,
});
front.server.listen({ fd: listening }, () => say(frontListens));
if (setup.acme !== undefined) {
  const { directory, accountKey: bytes, roots } = setup.acme;
  const accountKey = createPrivateKey({ key: Buffer.from(bytes, "base64"), format: "der", type: "pkcs8" });
  const options = { directory, accountKey, ...(roots !== undefined && { roots }) };
  void keepCertificate(front, key, setup.names, options, (what) => say(encodeReport(what)));
}
