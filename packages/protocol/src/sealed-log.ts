// SPDX-License-Identifier: Apache-2.0
/**
 * Lines of services, encrypted to keys that the description names. The host, which carries them, sees how long they are
 * and when they came.
 *
 * Each part is an age file of its own, so that one that is lost takes no other with it. Inside: a number that begins at
 * 0, an id of the run that is nowhere else, and the lines. Whoever opens them sees by the numbers what is missing, and by
 * the id what the host wrote itself; a whole run can be made up by anybody.
 */
import { randomBytes } from "node:crypto";
import { encryptAge } from "./age.ts";

/** A line, when it was written (seconds since the kernel started), and by whom. */
export type LogLine = [at: number, service: string, line: string];

export interface LogPart {
  /** 16 bytes, hex. */
  run: string;
  number: number;
  /** Nothing follows: the machine has ended as it should. */
  last: boolean;
  lines: LogLine[];
}

/** Bytes of lines in a part, unless one alone has more; what encrypts them becomes one line of the console. */
const partLimit = 8_000;

/** Collects lines and gives them away in parts: `send` gets base64. */
export class SealedLog {
  readonly #recipients: readonly Uint8Array[];
  readonly #send: (data: string) => void;
  readonly #run = randomBytes(16).toString("hex");
  #number = 0;
  #lines: LogLine[] = [];
  #size = 0;

  /** `recipients` are X25519 public keys. */
  constructor(recipients: readonly Uint8Array[], send: (data: string) => void) {
    this.#recipients = recipients;
    this.#send = send;
  }

  add(line: LogLine): void {
    const size = Buffer.byteLength(JSON.stringify(line));
    if (this.#size + size > partLimit) this.flush();
    this.#lines.push(line);
    this.#size += size;
  }

  /** Gives away what there is, if anything; `last` says that nothing follows, even where there is nothing. */
  flush(last = false): void {
    if (this.#lines.length === 0 && !last) return;
    const part: LogPart = { run: this.#run, number: this.#number++, last, lines: this.#lines };
    [this.#lines, this.#size] = [[], 0];
    const file = encryptAge(this.#recipients, Buffer.from(JSON.stringify(part)));
    this.#send(Buffer.from(file).toString("base64"));
  }
}
