// SPDX-License-Identifier: Apache-2.0
/** What a user names as an input: a file, or `-` for standard input. */
import { closeSync, openSync, readSync } from "node:fs";

const PIECE = 65_536;
const PAUSE_MS = 5;

/**
 * Its bytes: all, or at most one more than `most`, so that the caller sees that it is larger. Throws what the system says.
 * Whoever started us may have left standard input so that reads do not wait; then this does, as long as a person or a
 * program writes there.
 */
export function readInput(path: string, most = Number.POSITIVE_INFINITY): Buffer {
  const descriptor = path === "-" ? 0 : openSync(path, "r");
  const pieces: Buffer[] = [];
  try {
    for (let left = most + 1; left > 0; ) {
      const piece = Buffer.alloc(Math.min(PIECE, left));
      const size = readOrWait(descriptor, piece);
      if (size === 0) break;
      pieces.push(piece.subarray(0, size));
      left -= size;
    }
  } finally {
    if (descriptor !== 0) closeSync(descriptor);
  }
  return Buffer.concat(pieces);
}

function readOrWait(descriptor: number, piece: Buffer): number {
  for (;;) {
    try {
      return readSync(descriptor, piece);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Windows says so at the end of a pipe.
      if (code === "EOF") return 0;
      if (code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
  }
}
