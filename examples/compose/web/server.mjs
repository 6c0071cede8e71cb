// SPDX-License-Identifier: Apache-2.0
// Counts visits in the store, and lets itself be verified.
//
//   GET /                                        the count
//   GET /.well-known/caisson/evidence?nonce=HEX  fresh evidence that binds the nonce
import { connect } from "node:net";
import { text } from "node:stream/consumers";

const { createServer, request: httpRequest } = process.getBuiltinModule("node:http");
const [host, port] = process.env.STORE.split(":");

/** One command to the store; its answer without the type that stands before it. */
function store(...words) {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), host);
    socket.setTimeout(5_000, () => socket.destroy(new Error("the store does not answer")));
    socket.once("error", reject);
    socket.once("data", (bytes) => {
      socket.end();
      resolve(bytes.toString().slice(1).trimEnd());
    });
    socket.write(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`);
  });
}

/** Evidence of the guest over a nonce. */
function evidence(nonce) {
  return new Promise((resolve, reject) => {
    const call = { socketPath: "/run/caisson.sock", method: "POST", path: "/evidence" };
    httpRequest(call, async (response) => {
      const answer = await text(response);
      if (response.statusCode === 200) resolve(answer);
      else reject(new Error(answer));
    })
      .once("error", reject)
      .end(JSON.stringify({ nonce }));
  });
}

async function answer({ url }) {
  const { pathname, searchParams } = new URL(url, "http://localhost");
  if (pathname === "/.well-known/caisson/evidence") {
    const nonce = searchParams.get("nonce") ?? "";
    if (!/^(?:[0-9a-f]{2}){8,64}$/.test(nonce)) return [400, "nonce: 8 to 64 bytes in hexadecimal\n"];
    return [200, await evidence(nonce)];
  }
  if (pathname !== "/") return [404, "not found\n"];
  return [200, `${process.env.GREETING}: ${await store("INCR", "visits")}\n`];
}

const server = createServer(async (request, response) => {
  const [code, body] = await answer(request).catch((error) => [502, `${error.message}\n`]);
  response.writeHead(code, { "content-length": Buffer.byteLength(body) }).end(body);
});
server.listen(8080, () => console.log("the front listens on port 8080"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
