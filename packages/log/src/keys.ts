// SPDX-License-Identifier: Apache-2.0
/** Keys that sign checkpoints: Ed25519, of a log (type 1) or of a witness (type 4), in a file of PKCS #8 with a name. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { cosignedText, type NoteKey, writeNoteKey, writeSignature } from "@caisson/releases";
import { concat } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { u64, text as utf8 } from "@caisson/vocabulary/frame";
import { object, oneOf, text } from "@caisson/vocabulary/schema";
import { LogServiceError } from "./errors.ts";

const version = "caisson/note-key/v1";
const schema = object({
  version: oneOf(version),
  name: text("a name without spaces and +", /^[^\s+]+$/, 200),
  kind: oneOf("note", "cosignature"),
  /** PKCS #8 in PEM. */
  key: text("a key in PEM", /^-----BEGIN PRIVATE KEY-----/, 1000),
});

/** Signs notes. */
export interface NoteSigningKey {
  key: NoteKey;
  /** The verifier key, as policies name it. */
  verifier: string;
  /** One line of signature under a checkpoint's text; of a witness at a time, seconds since 1970. */
  line(checkpoint: string, time?: number): Promise<string>;
}

const rawPublic = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }).subarray(12));

/** A signer of that name and kind. */
export async function noteSigner(
  name: string,
  kind: NoteKey["kind"],
  key: KeyObject,
): Promise<NoteSigningKey> {
  const own: NoteKey = { name, kind, key: rawPublic(key) };
  return {
    key: own,
    verifier: await writeNoteKey(own),
    line: (checkpoint, time = 0) =>
      kind === "note"
        ? writeSignature(own, new Uint8Array(sign(null, utf8(checkpoint), key)))
        : writeSignature(own, concat(u64(time), sign(null, utf8(cosignedText(checkpoint, time)), key))),
  };
}

/** The key in a file; a new one is made where there is none and `create` names it. Throws LogServiceError "log-service/key". */
export async function noteSigningKey(
  path: string,
  create?: { name: string; kind: NoteKey["kind"] },
): Promise<NoteSigningKey> {
  try {
    const { name, kind, key } = schema(JSON.parse(readFileSync(path, "utf8")));
    return await noteSigner(name, kind, createPrivateKey(key));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || create === undefined) {
      throw new LogServiceError("log-service/key", `${path} is not a key for notes: ${messageOf(error)}`, {
        fix: "caisson log key NAME --output FILE",
        cause: error,
      });
    }
  }
  const { privateKey } = generateKeyPairSync("ed25519");
  const document = schema({ version, ...create, key: privateKey.export({ format: "pem", type: "pkcs8" }) });
  writeFileSync(path, `${JSON.stringify(document, null, 2)}\n`, { flag: "wx", mode: 0o600, flush: true });
  return noteSigner(create.name, create.kind, privateKey);
}
