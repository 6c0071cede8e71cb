// SPDX-License-Identifier: Apache-2.0
// A small store that speaks the part of Redis' protocol (RESP) that counting needs: PING, GET, SET, INCR.
//
//   server.mjs [--save FILE]    keeps what it holds in FILE
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";

const [, file] = process.argv.slice(2);
const values = new Map(file !== undefined && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : []);

function save() {
  if (file === undefined) return;
  writeFileSync(`${file}.new`, JSON.stringify([...values]));
  renameSync(`${file}.new`, file);
}

const bulk = (text) => (text === undefined ? "$-1\r\n" : `$${Buffer.byteLength(text)}\r\n${text}\r\n`);

function run([name = "", key = "", value = ""]) {
  switch (name.toUpperCase()) {
    case "PING":
      return "+PONG\r\n";
    case "GET":
      return bulk(values.get(key));
    case "SET":
      values.set(key, value);
      save();
      return "+OK\r\n";
    case "INCR": {
      const next = Number(values.get(key) ?? 0) + 1;
      values.set(key, String(next));
      save();
      return `:${next}\r\n`;
    }
    default:
      return `-ERR unknown command '${name.slice(0, 40)}'\r\n`;
  }
}

/** The words of the first whole command in `text` and what follows it; undefined while it is not whole. */
function take(text) {
  const head = /^\*(\d{1,2})\r\n/.exec(text);
  if (head === null) return undefined;
  let at = head[0].length;
  const words = [];
  for (let i = 0; i < Number(head[1]); i++) {
    const size = /^\$(\d{1,6})\r\n/.exec(text.slice(at));
    if (size === null) return undefined;
    at += size[0].length;
    if (text.length < at + Number(size[1]) + 2) return undefined;
    words.push(text.slice(at, at + Number(size[1])));
    at += Number(size[1]) + 2;
  }
  return [words, text.slice(at)];
}

const server = createServer((socket) => {
  let waiting = "";
  socket.setEncoding("latin1");
  socket.on("data", (text) => {
    waiting += text;
    for (let next = take(waiting); next !== undefined; next = take(waiting)) {
      socket.write(run(next[0]), "latin1");
      waiting = next[1];
    }
    if (waiting.length > 1 << 20) socket.destroy();
  });
  socket.on("error", () => socket.destroy());
});
server.listen(6379, () => console.log("the store listens on port 6379"));
process.on("SIGTERM", () => process.exit(0));
