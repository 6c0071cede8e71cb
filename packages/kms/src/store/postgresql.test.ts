// SPDX-License-Identifier: Apache-2.0
/** Which errors of PostgreSQL's may pass; all else is in test/integration/kms-postgresql.test.ts, with a server. */
import { ok, rejects } from "node:assert/strict";
import { type AddressInfo, createServer } from "node:net";
import { Readable } from "node:stream";
import test from "node:test";
import pg from "pg";
import { postgresql } from "./postgresql.ts";
import { message } from "./testing/message.ts";

/** What the server says under this code (SQLSTATE). */
const said = (code: string) => Object.assign(new pg.DatabaseError("no", 2, "error"), { code });
/** What the connection fails with (errno). */
const failed = (code: string) => Object.assign(new Error(`write ${code}`), { code });

for (const { error, code } of [
  { error: failed("ECONNRESET"), code: "log/unavailable" },
  { error: failed("EPIPE"), code: "log/unavailable" },
  { error: said("57P01"), code: "log/unavailable" },
  { error: said("53100"), code: "log/unavailable" },
  { error: said("42501"), code: "log/unreadable" },
  { error: said("XX001"), code: "log/unreadable" },
]) {
  test(`${error.code} is ${code}`, async (t) => {
    t.mock.method(pg.Client.prototype, "connect", () => Promise.resolve());
    t.mock.method(pg.Client.prototype, "query", () => Promise.reject(error));
    t.mock.method(pg.Client.prototype, "end", () => Promise.resolve());
    await rejects(postgresql(["postgresql://kms@127.0.0.1:1/kms"]), { code });
  });
}

const welcome = Buffer.concat([message("R", 0, 0, 0, 0), message("Z", "I")]);

/** What something says that is not PostgreSQL, or no more. */
const strangers: { name: string; said: Buffer }[] = [
  { name: "a way to log in that there is not", said: message("R", 0, 0, 0, 99) },
  { name: "the end of a login that did not begin", said: message("R", 0, 0, 0, 12, "v=x") },
  { name: "columns that it does not name", said: Buffer.concat([welcome, message("T", 0, 5, "A", 0)]) },
  { name: "a notification that breaks off", said: Buffer.concat([welcome, message("A", 0)]) },
  {
    name: "a row that nobody asked for",
    said: Buffer.concat([welcome, message("D", 0, 1, 0, 0, 0, 1, "A")]),
  },
  { name: "a message that there is not", said: Buffer.concat([welcome, message("?", "x")]) },
  { name: "an error without words", said: Buffer.concat([welcome, message("E", "x")]) },
];
for (const { name, said: bytes } of strangers) {
  test(`a server that says what PostgreSQL does not is away: ${name}`, async (t) => {
    const server = createServer((socket) => {
      socket.on("error", () => {}).once("data", () => socket.write(bytes));
    }).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    await rejects(postgresql([`postgresql://kms@127.0.0.1:${port}/kms`]), { code: "log/unavailable" });
  });
}

for (const { name, columns, row, code } of [
  {
    name: "rows",
    columns: message("T", 0, 1, "c", ...Array<number>(19).fill(0)),
    row: message("D", 0, 0),
    code: /131072 messages/,
  },
  {
    name: "large rows",
    columns: message("T", 0, 1, "c", ...Array<number>(19).fill(0)),
    row: message("D", 0, 1, 0, 15, 255, 255, "x".repeat(2 ** 20 - 1)),
    code: /134217728 bytes/,
  },
  { name: "columns", columns: message("T", 255, 255), row: message("D", 0, 0), code: /65535 columns/ },
]) {
  test(`a server whose answer does not end is away before it fills the memory: ${name}`, async (t) => {
    const server = createServer((socket) => {
      socket
        .on("error", () => {})
        .once("data", () => {
          socket.write(welcome);
          socket.once("data", () => {
            const many = Buffer.concat(Array<Buffer>(Math.max(1, Math.floor(65_536 / row.length))).fill(row));
            const answer = function* () {
              yield columns;
              for (;;) yield many;
            };
            Readable.from(answer())
              .on("error", () => {})
              .pipe(socket);
          });
        });
    }).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    const before = process.memoryUsage.rss();
    await rejects(postgresql([`postgresql://kms@127.0.0.1:${port}/kms`]), {
      code: "log/unavailable",
      message: code,
    });
    const grown = process.memoryUsage.rss() - before;
    ok(grown < 400 * 2 ** 20, `${grown} bytes more`);
  });
}
