// SPDX-License-Identifier: Apache-2.0
// A counter that nobody can turn back: it is in SQLite on a persistent volume, and a number is told to the outside only
// after a checkpoint, so that no restart can ever show a smaller one.
//
//   GET  /                                         the number
//   POST /increment                                one more, kept for good before it is answered
//   POST /write?name=NAME                          puts the request's body into a file; no promise is made about it
//   GET  /.well-known/caisson/evidence?nonce=HEX   fresh evidence that binds the nonce
//   GET  /.well-known/caisson/live                 what the guest sees of itself (development images)
import { readFileSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { buffer, text } from "node:stream/consumers";

const { createServer, request: httpRequest } = process.getBuiltinModule("node:http");

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

const database = new DatabaseSync("/data/counter.sqlite");
database.exec(`
  PRAGMA journal_mode = WAL;
  CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT;
  INSERT OR IGNORE INTO counter VALUES (1, 0);`);
const read = database.prepare("SELECT value FROM counter");
const add = database.prepare("UPDATE counter SET value = value + 1");

const json = (value) => [200, "application/json", `${JSON.stringify(value)}\n`];

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  switch (`${request.method} ${pathname}`) {
    case "GET /":
      return json({ count: read.get().value });
    case "POST /increment": {
      add.run();
      const { value } = read.get();
      return json({ count: value, ...(await guest("POST", "/checkpoint")) });
    }
    case "POST /write":
    case "GET /read": {
      const name = searchParams.get("name") ?? "";
      if (!/^[\w-]{1,64}$/.test(name)) return [400, "text/plain", "name: letters, digits, _ and -\n"];
      const path = `/data/${name}`;
      if (request.method === "GET") return [200, "application/octet-stream", readFileSync(path)];
      const body = await buffer(request);
      writeFileSync(path, body);
      return json({ name, bytes: body.length });
    }
    case "GET /.well-known/caisson/evidence": {
      const nonce = searchParams.get("nonce") ?? "";
      if (!/^(?:[0-9a-f]{2}){8,64}$/.test(nonce)) return [400, "text/plain", "nonce: 8 to 64 bytes in hexadecimal\n"];
      return json(await guest("POST", "/evidence", { nonce }));
    }
    case "GET /.well-known/caisson/live":
      return json(await guest("GET", "/live"));
    default:
      return [404, "text/plain", "not found\n"];
  }
}

const server = createServer(async (request, response) => {
  const [code, type, body] = await answer(request).catch((error) => [502, "text/plain", `${error.message}\n`]);
  response.writeHead(code, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(body);
});
server.listen(8080, () => console.log(`counter stands at ${read.get().value}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
