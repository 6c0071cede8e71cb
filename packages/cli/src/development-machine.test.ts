// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { ExecReader, encodeFrames } from "@caisson/protocol/exec";
import { split } from "./commands/exec.ts";
import { carry } from "./development-machine.ts";

const request = { token: "00".repeat(32), service: "web", arguments: ["cat"] };

/** A machine that answers as `serve` does. */
async function against(serve: (socket: Socket, reader: ExecReader) => void) {
  const server = createServer((socket) => {
    const reader = new ExecReader();
    socket.on("data", (bytes) => {
      reader.push(bytes as Buffer);
      serve(socket, reader);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as { port: number }).port, "127.0.0.1");
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const status = carry(socket, request, { stdin, stdout, stderr }).finally(() => {
    for (const stream of [stdout, stderr]) stream.end();
    socket.destroy();
    server.close();
  });
  return { status, stdin, stdout, stderr };
}

test("input goes in, output and errors come out apart, and the status is the command's", async () => {
  let asked: unknown;
  const { status, stdin, stdout, stderr } = await against((socket, reader) => {
    asked ??= reader.request();
    if (asked === undefined) return;
    for (let frame = reader.frame(); frame !== undefined; frame = reader.frame()) {
      if (frame.bytes.length > 0) socket.write(encodeFrames("output", frame.bytes));
      else
        socket.write(
          Buffer.concat([encodeFrames("errors", Buffer.from("bad")), encodeFrames("status", Buffer.of(7))]),
        );
    }
  });
  stdin.end("hello");
  equal(await status, 7);
  deepEqual([asked, await text(stdout), await text(stderr)], [request, "hello", "bad"]);
});

test("a refusal is said, and so is a machine that goes away or talks nonsense", async () => {
  const refused = await against((socket) => void socket.write(encodeFrames("refused", Buffer.from("no"))));
  await rejects(refused.status, { code: "cli/usage", message: /no/ });
  const gone = await against((socket) => void socket.destroy());
  await rejects(gone.status, { code: "cli/usage", message: /does not answer/ });
  const odd = await against((socket) => void socket.write(Buffer.from("ffffffffff", "hex")));
  await rejects(odd.status, RangeError);
});

test("the first word is a service where there are several, and may be where there is one", () => {
  deepEqual(split(["web", "ls", "-l"], ["db", "web"]), ["web", ["ls", "-l"]]);
  deepEqual(split(["ls", "-l"], ["web"]), ["web", ["ls", "-l"]]);
  deepEqual(split(["web", "ls"], ["web"]), ["web", ["ls"]]);
  deepEqual(split(["--", "ls"], ["web"]), ["web", ["ls"]]);
  deepEqual(split(["web", "--", "ls", "--"], ["db", "web"]), ["web", ["ls", "--"]]);
  throws(() => split(["ls"], ["db", "web"]), { code: "cli/usage", message: /no service 'ls'/ });
});
