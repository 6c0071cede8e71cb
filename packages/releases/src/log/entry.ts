// SPDX-License-Identifier: Apache-2.0
/**
 * What a log holds of one document: its kind, whose it is, and its hash. Envelopes lie beside the log under that hash, so
 * that large ones stay out of it, and whoever follows a log fetches those of his applications alone.
 */
import { fromHex, toHex } from "@caisson/vocabulary/bytes";
import { frame, text as utf8 } from "@caisson/vocabulary/frame";
import { ReleaseError } from "../errors.ts";

export const entryKinds = ["identity", "release", "revocation", "rebuild", "secrets"] as const;
export type EntryKind = (typeof entryKinds)[number];

const domain = "caisson/log-entry/v1";

export interface LogEntry {
  kind: EntryKind;
  /** The application's id, hex. */
  app: string;
  /** SHA-256 of the document: an envelope's payload, or the first identity document, hex. */
  hash: string;
}

/** The bytes of an entry. */
export function logEntry(kind: EntryKind, app: string, hash: string): Uint8Array {
  return frame(domain, utf8(kind), fromHex(app)!, fromHex(hash)!);
}

/** Reads an entry in its one spelling. Throws ReleaseError "log/malformed". */
export function readLogEntry(bytes: Uint8Array): LogEntry {
  const hash = bytes.subarray(-32);
  const app = bytes.subarray(-68, -36);
  for (const kind of entryKinds) {
    const entry = { kind, app: toHex(app), hash: toHex(hash) };
    if (app.length < 32) break;
    const written = logEntry(kind, entry.app, entry.hash);
    if (written.length === bytes.length && written.every((byte, i) => byte === bytes[i])) return entry;
  }
  throw new ReleaseError("log/malformed", "an entry of the log is not one of this format");
}
