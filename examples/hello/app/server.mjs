// SPDX-License-Identifier: Apache-2.0
// The example: what an application can see of itself in its sandbox, and what it can prove to others.
//
//   GET /                                        a page (or JSON): who it is, its public key, its sandbox
//   GET /.well-known/caisson/evidence?nonce=HEX  fresh evidence that binds the nonce
//   GET /.well-known/caisson/live                what the guest sees of itself (development images)
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { text } from "node:stream/consumers";

// An import would read every export of node:http, and so load undici for one of them: a second under emulation.
const { createServer, request: httpRequest } = process.getBuiltinModule("node:http");

const port = Number(process.env.PORT ?? 8080);

/** One call to the guest, over the socket that it gives its application. */
function guest(method, path, body) {
  return new Promise((resolve, reject) => {
    const call = httpRequest({ socketPath: "/run/caisson.sock", method, path }, async (response) => {
      const answer = JSON.parse(await text(response));
      if (response.statusCode === 200) resolve(answer);
      else reject(new Error(answer.error));
    });
    call.once("error", reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** The public half of a signing key that only this application on a verified machine can have. */
async function publicKey() {
  const { key } = await guest("POST", "/key", { path: "hello/identity", purpose: "signing" });
  // An Ed25519 key in PKCS #8 is this header and the 32 bytes (RFC 8410, section 7).
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(key, "hex")]);
  const secret = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  return createPublicKey(secret).export({ format: "der", type: "spki" }).subarray(-32).toString("hex");
}

const attempt = (action) => {
  try {
    return action();
  } catch (error) {
    return error.code ?? error.message;
  }
};

const status = (name) =>
  attempt(() => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(readFileSync("/proc/self/status", "utf8"))?.[1]);

async function report() {
  return {
    ...(await guest("GET", "/info")),
    publicKey: await publicKey().catch((error) => `none: ${error.message}`),
    node: process.version,
    time: new Date().toISOString(),
    uptime: Number(process.uptime().toFixed(3)),
    sandbox: {
      pid: process.pid,
      user: process.getuid(),
      capabilities: status("CapEff"),
      noNewPrivileges: status("NoNewPrivs"),
      seccomp: status("Seccomp"),
      rootIsWritable: attempt(() => writeFileSync("/written", "")) === undefined,
      root: attempt(() => readdirSync("/")),
      devices: attempt(() => readdirSync("/dev")),
      processes: attempt(() => readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length),
      interfaces: attempt(() => Object.keys(networkInterfaces())),
    },
  };
}

const page = (facts) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>hello</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}pre{overflow:auto}</style>
<h1>Hello from a confidential VM</h1>
<p>This is what the application sees from inside. Do not believe it: ask for
<a href="/.well-known/caisson/evidence?nonce=0123456789abcdef">evidence</a> over a nonce of your own and verify it.</p>
<pre>${JSON.stringify(facts, null, 2).replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</pre>
</html>
`;

async function answer({ url, headers }) {
  const { pathname, searchParams } = new URL(url, "http://localhost");
  if (pathname === "/.well-known/caisson/evidence") {
    const nonce = searchParams.get("nonce") ?? "";
    if (!/^(?:[0-9a-f]{2}){8,64}$/.test(nonce)) return [400, "text/plain", "nonce: 8 to 64 bytes in hexadecimal\n"];
    return [200, "application/json", JSON.stringify(await guest("POST", "/evidence", { nonce }))];
  }
  if (pathname === "/.well-known/caisson/live") {
    return [200, "application/json", JSON.stringify(await guest("GET", "/live"))];
  }
  if (pathname !== "/") return [404, "text/plain", "not found\n"];
  const facts = await report();
  if ((headers.accept ?? "").includes("text/html")) return [200, "text/html; charset=utf-8", page(facts)];
  return [200, "application/json", `${JSON.stringify(facts, null, 2)}\n`];
}

const server = createServer(async (request, response) => {
  let [code, type, body] = [405, "text/plain", "GET and HEAD only\n"];
  if (request.method === "GET" || request.method === "HEAD") {
    [code, type, body] = await answer(request).catch((error) => [502, "text/plain", `${error.message}\n`]);
  }
  response.writeHead(code, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
});

server.listen(port, () => console.log(`hello listens on port ${port}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
