// SPDX-License-Identifier: Apache-2.0
/** Takes values off the front of foreign bytes. Every length is checked against what is left before anything is made of it. */
import { type CheckCode, VerifyError } from "../errors.ts";

export class Cursor {
  readonly #bytes: Uint8Array;
  /** As in an error: "this dstack attestation". */
  readonly #what: string;
  readonly #code: CheckCode | "evidence/malformed";
  #at = 0;

  /** `code`: of every refusal. */
  constructor(
    bytes: Uint8Array,
    what: string,
    code: CheckCode | "evidence/malformed" = "evidence/malformed",
  ) {
    this.#bytes = bytes;
    this.#what = what;
    this.#code = code;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** The next `size` bytes. Throws VerifyError, as all of them do. */
  take(size: number): Uint8Array {
    if (size > this.left) this.wrong(`ends inside a field: ${this.left} of its ${size} bytes are there`);
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  /** Of at most six bytes. */
  littleEndian(size: number): number {
    return this.take(size).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  /** Of at most six bytes. */
  bigEndian(size: number): number {
    return this.take(size).reduce((value, byte) => value * 256 + byte, 0);
  }

  /** UTF-8. */
  text(size: number): string {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.take(size));
    } catch (error) {
      if (error instanceof VerifyError) throw error;
      return this.wrong("has a text that is not UTF-8");
    }
  }

  end(): void {
    if (this.left > 0) this.wrong(`ends before its bytes do: ${this.left} follow`);
  }

  wrong(reason: string): never {
    throw new VerifyError(this.#code, `${this.#what} ${reason}`, { where: `byte ${this.#at}` });
  }
}
