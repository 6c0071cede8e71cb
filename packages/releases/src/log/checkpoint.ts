// SPDX-License-Identifier: Apache-2.0
/** Checkpoints (https://c2sp.org/tlog-checkpoint): how large a log is, and the hash of all that is in it. */
import { fromBase64, toBase64 } from "@caisson/vocabulary/bytes";
import { ReleaseError } from "../errors.ts";

export interface Checkpoint {
  origin: string;
  /** Number of entries. */
  size: number;
  /** Root of the tree over them, 32 bytes. */
  root: Uint8Array;
}

/** Reads a checkpoint's text. Extension lines are part of what is signed and say nothing here. */
export function readCheckpoint(text: string): Checkpoint {
  const [origin = "", size = "", root = "", ...extensions] = text.split("\n");
  const bytes = fromBase64(root);
  if (
    origin === "" ||
    !isDecimal(size) ||
    bytes?.length !== 32 ||
    extensions.pop() !== "" ||
    extensions.includes("")
  ) {
    throw new ReleaseError(
      "log/malformed",
      "a checkpoint has lines of origin, size and root, and ends in a newline",
    );
  }
  return { origin, size: Number(size), root: bytes };
}

export const writeCheckpoint = ({ origin, size, root }: Checkpoint): string =>
  `${origin}\n${size}\n${toBase64(root)}\n`;

/** A whole number below 2^53, in its one decimal spelling. */
export function isDecimal(text: string): boolean {
  return /^(?:0|[1-9]\d{0,15})$/.test(text) && Number.isSafeInteger(Number(text));
}
