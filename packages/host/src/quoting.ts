// SPDX-License-Identifier: Apache-2.0
/**
 * The emulated quoting service: what Intel's quoting enclave and its service are on a TDX host, for machines without
 * TDX. It signs whatever quote body the guest's emulation driver sends with a simulated PKI, so it proves nothing;
 * that PKI's root is trusted by development policies only.
 *
 * The channel is the guest's second serial port (docs/emulation.md): request `CQRQ`, u32 LE length, body; answer
 * `CQRS`, u32 LE status (0 is success), u32 LE length, quote.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { SignQuote } from "@caisson/simulated/simulated-platform";

const bodySize = 584;
const headerSize = 8;

const status = { done: 0, malformed: 1, failed: 2 };

function answer(code: number, quote: Uint8Array = new Uint8Array()): Buffer {
  const header = Buffer.from("CQRS\0\0\0\0\0\0\0\0", "latin1");
  header.writeUInt32LE(code, 4);
  header.writeUInt32LE(quote.length, 8);
  return Buffer.concat([header, quote]);
}

/** Serves one guest on the Unix socket `path`. Bytes that follow no format are answered once and dropped. */
export async function serveQuotes(path: string, sign: SignQuote): Promise<Server> {
  const server = createServer((socket: Socket) => {
    let pending = Buffer.alloc(0);
    let work: Promise<void> = Promise.resolve();
    const take = async (): Promise<void> => {
      // The line may carry noise from before the driver owned it: a request starts at its magic.
      const start = pending.indexOf("CQRQ");
      pending = start < 0 ? pending.subarray(-3) : pending.subarray(start);
      if (start < 0 || pending.length < headerSize) return;
      if (pending.readUInt32LE(4) !== bodySize) {
        pending = pending.subarray(headerSize);
        socket.write(answer(status.malformed));
        return;
      }
      if (pending.length < headerSize + bodySize) return;
      const body = pending.subarray(headerSize, headerSize + bodySize);
      pending = pending.subarray(headerSize + bodySize);
      try {
        socket.write(answer(status.done, await sign(body)));
      } catch {
        socket.write(answer(status.failed));
      }
    };
    socket.on("data", (chunk: Buffer) => {
      work = work.then(() => {
        pending = Buffer.concat([pending, chunk]);
        return take();
      });
    });
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  return server;
}
