// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import type { Server } from "node:net";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { serveQuotes } from "./quoting.ts";

const directory = mkdtempSync(join(tmpdir(), "caisson-test-"));
const path = join(directory, "quotes.sock");
let server: Server;
before(async () => {
  server = await serveQuotes(path, async (body) => {
    if (body[0] === 0xee) throw new Error("no");
    return Uint8Array.of(body[0]!, body.at(-1)!);
  });
});
after(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

const body = (first: number): Buffer => Buffer.alloc(584, first);
function request(first: number, size = 584): Buffer {
  const header = Buffer.from("CQRQ\0\0\0\0", "latin1");
  header.writeUInt32LE(size, 4);
  return Buffer.concat([header, body(first)]);
}

/** Sends the pieces one by one and returns what came back once `expected` bytes did. */
async function exchange(pieces: Uint8Array[], expected: number): Promise<Buffer> {
  const socket = connect(path);
  const got = new Promise<Buffer>((resolve) => {
    let bytes: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length >= expected) resolve(bytes);
    });
  });
  for (const piece of pieces) {
    socket.write(piece);
    await turn();
  }
  const answer = await got;
  socket.destroy();
  return answer;
}

const done = (first: number): Buffer =>
  Buffer.concat([Buffer.from("CQRS\0\0\0\0\x02\0\0\0", "latin1"), Buffer.of(first, first)]);

test("a request is answered, whole or in pieces, after noise or not", async () => {
  deepEqual(await exchange([request(7)], 14), done(7));
  deepEqual(
    await exchange(
      [...request(7)].map((byte) => Buffer.of(byte)),
      14,
    ),
    done(7),
  );
  deepEqual(await exchange([Buffer.from("\0\0AT\rCQ"), request(9)], 14), done(9));
});

test("another body size is refused, and the line still works after it", async () => {
  const answer = await exchange([request(1, 583)], 12);
  equal(answer.readUInt32LE(4), 1);
});

test("a signer that fails gives an error status and no quote", async () => {
  const answer = await exchange([request(0xee)], 12);
  deepEqual([answer.readUInt32LE(4), answer.readUInt32LE(8)], [2, 0]);
});
