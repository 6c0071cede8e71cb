// SPDX-License-Identifier: Apache-2.0
/**
 * A disk whose host is the adversary: an NBD server (NetworkBlockDevice/nbd, doc/proto.md, fixed newstyle) for QEMU. It
 * remembers every version of every block and all writes and flushes in their order, may answer any read with whatever it
 * likes, and makes the files that a power cut at any moment could have left.
 */
import { closeSync, copyFileSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";

/** One sector of the guest's cipher, and what a read or write here consists of. Bytes. */
const blockSize = 4096;
/** What a drive never tears. */
const sectorSize = 512;

/** What happened to the disk, in order; a mark is the test's. */
export type DiskEvent =
  | { kind: "write"; at: number; bytes: Buffer }
  | { kind: "flush" }
  | { kind: "mark"; name: string; value: bigint };

const magic = { hello: "NBDMAGIC", options: "IHAVEOPT", request: 0x25609513, reply: 0x67446698 } as const;
const optionReply = 0x3e889045565a9n;
const option = { exportName: 1, abort: 2, info: 6, go: 7 } as const;
const command = { read: 0, write: 1, disconnect: 2, flush: 3 } as const;
/** NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH. */
const exportFlags = 1 | 4;
const refused = { unsupported: 0x80000001, invalid: 22, full: 28 } as const;

export class HostileDisk {
  readonly events: DiskEvent[] = [];
  /** What a read of one block is answered with: `honest` is what was written last. */
  answer: (at: number, honest: Buffer) => Buffer = (_, honest) => honest;
  /** Whether writes fail for want of room. */
  full = false;
  readonly #file: number;
  readonly #size: number;
  readonly #socket: string;
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  /** Every version of a block that was written here, the newest last. */
  readonly #versions = new Map<number, Buffer[]>();

  readonly #see: ((at: number, bytes: Buffer) => void) | undefined;

  private constructor(path: string, socket: string, see?: (at: number, bytes: Buffer) => void) {
    this.#see = see;
    this.#file = openSync(path, see === undefined ? "r" : "r+");
    this.#size = fstatSync(this.#file).size;
    this.#socket = socket;
    this.#server = createServer((connection) => {
      this.#open.add(connection);
      connection.on("error", () => connection.destroy()).on("close", () => this.#open.delete(connection));
      void this.#serve(connection).catch(() => connection.destroy());
    });
  }

  /** Serves a disk that begins as this file, which is not written to, on a Unix socket at `socket`. */
  static serve(path: string, socket: string): Promise<HostileDisk> {
    return HostileDisk.#listen(new HostileDisk(path, socket), socket);
  }

  /** Serves this file itself: `see` is told every write before it is done, and nothing is remembered. */
  static watch(path: string, socket: string, see: (at: number, bytes: Buffer) => void): Promise<HostileDisk> {
    return HostileDisk.#listen(new HostileDisk(path, socket, see), socket);
  }

  static async #listen(disk: HostileDisk, socket: string): Promise<HostileDisk> {
    await new Promise<void>((resolve, reject) => {
      disk.#server.once("error", reject).listen(socket, resolve);
    });
    return disk;
  }

  /** What QEMU takes in the place of a file. */
  get url(): string {
    return `nbd+unix:///?socket=${this.#socket}`;
  }

  mark(name: string, value: bigint): void {
    this.events.push({ kind: "mark", name, value });
  }

  /** A block as it was before it was last written here; undefined for one that was not. */
  before(at: number): Buffer | undefined {
    const versions = this.#versions.get(at);
    return versions === undefined ? undefined : (versions.at(-2) ?? this.#original(at));
  }

  /**
   * The file that is left when the power fails after the first `count` events: what was flushed is there, and of the writes
   * since then the sectors that `kept` lets through: by their number, and by the place of their write.
   */
  crash(path: string, original: string, count: number, kept: (sector: number, at: number) => boolean): void {
    copyFileSync(original, path);
    const file = openSync(path, "r+");
    const flushed = this.events.slice(0, count).findLastIndex(({ kind }) => kind === "flush");
    let sector = 0;
    for (const [index, event] of this.events.slice(0, count).entries()) {
      if (event.kind !== "write") continue;
      const { at, bytes } = event;
      if (index < flushed) writeSync(file, bytes, 0, bytes.length, at);
      else {
        for (let part = 0; part < bytes.length; part += sectorSize) {
          if (kept(sector++, at)) writeSync(file, bytes, part, sectorSize, at + part);
        }
      }
    }
    closeSync(file);
  }

  /** The disk as it is now, as a file. */
  keep(path: string, original: string): void {
    this.crash(path, original, this.events.length, () => true);
  }

  async close(): Promise<void> {
    for (const connection of this.#open) connection.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    closeSync(this.#file);
  }

  #original(at: number): Buffer {
    const bytes = Buffer.alloc(blockSize);
    readSync(this.#file, bytes, 0, blockSize, at);
    return bytes;
  }

  #block = (at: number): Buffer => this.#versions.get(at)?.at(-1) ?? this.#original(at);

  #read(at: number, length: number): Buffer {
    const first = at - (at % blockSize);
    const blocks: Buffer[] = [];
    for (let place = first; place < at + length; place += blockSize) {
      blocks.push(this.answer(place, this.#block(place)));
    }
    return Buffer.concat(blocks).subarray(at - first, at - first + length);
  }

  #write(at: number, bytes: Buffer): void {
    if (this.#see !== undefined) {
      this.#see(at, bytes);
      writeSync(this.#file, bytes, 0, bytes.length, at);
      return;
    }
    this.events.push({ kind: "write", at, bytes });
    for (let place = at - (at % blockSize); place < at + bytes.length; place += blockSize) {
      const block = Buffer.from(this.#block(place));
      bytes.copy(block, Math.max(0, at - place), Math.max(0, place - at), place + blockSize - at);
      const versions = this.#versions.get(place);
      if (versions === undefined) this.#versions.set(place, [block]);
      else versions.push(block);
    }
  }

  async #serve(connection: Socket): Promise<void> {
    const read = reader(connection);
    connection.write(Buffer.concat([Buffer.from(magic.hello + magic.options), be("16", 3)]));
    await read(4);
    if (!(await this.#negotiate(connection, read))) return void connection.end();
    for (;;) {
      const head = await read(28);
      if (head.readUInt32BE(0) !== magic.request) throw new Error("not a request");
      const [type, at, length] = [
        head.readUInt16BE(6),
        Number(head.readBigUInt64BE(16)),
        head.readUInt32BE(24),
      ];
      const handle = head.subarray(8, 16);
      const reply = (error: number, ...data: Buffer[]) =>
        connection.write(Buffer.concat([be("32", magic.reply), be("32", error), handle, ...data]));
      const inside = at + length <= this.#size;
      if (type === command.disconnect) return void connection.end();
      if (type === command.read && inside) reply(0, this.#read(at, length));
      else if (type === command.write) {
        const bytes = await read(length);
        if (!this.full) this.#write(at, bytes);
        reply(this.full ? refused.full : 0);
      } else if (type === command.flush) {
        this.events.push({ kind: "flush" });
        reply(0);
      } else reply(refused.invalid);
    }
  }

  /** Options until the client wants the only export; false when it does not. */
  async #negotiate(connection: Socket, read: Read): Promise<boolean> {
    const facts = Buffer.concat([be("64", this.#size), be("16", exportFlags)]);
    for (;;) {
      const head = await read(16);
      const asked = head.readUInt32BE(8);
      await read(head.readUInt32BE(12));
      const answer = (type: number, data = Buffer.alloc(0)) =>
        connection.write(
          Buffer.concat([
            be("64", optionReply),
            be("32", asked),
            be("32", type),
            be("32", data.length),
            data,
          ]),
        );
      if (asked === option.exportName) {
        connection.write(Buffer.concat([facts, Buffer.alloc(124)]));
        return true;
      }
      if (asked === option.info || asked === option.go) {
        answer(3, Buffer.concat([be("16", 0), facts]));
        answer(1);
        if (asked === option.go) return true;
      } else if (asked === option.abort) {
        answer(1);
        return false;
      } else answer(refused.unsupported);
    }
  }
}

function be(bits: "16" | "32" | "64", value: number | bigint): Buffer {
  const bytes = Buffer.alloc(Number(bits) / 8);
  if (bits === "16") bytes.writeUInt16BE(Number(value));
  else if (bits === "32") bytes.writeUInt32BE(Number(value));
  else bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

type Read = (length: number) => Promise<Buffer>;

/** Reads exactly so many bytes at a time. Rejects when the connection ends. */
function reader(connection: Socket): Read {
  const pieces = connection[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let rest: Buffer = Buffer.alloc(0);
  return async (length) => {
    const parts = [rest];
    let there = rest.length;
    while (there < length) {
      const { value, done } = await pieces.next();
      if (done === true) throw new Error("the connection ended");
      parts.push(value);
      there += value.length;
    }
    const all = Buffer.concat(parts);
    rest = all.subarray(length);
    return all.subarray(0, length);
  };
}
