// SPDX-License-Identifier: Apache-2.0
/**
 * Signed notes (https://c2sp.org/signed-note): a text and lines of signatures under it.
 *
 * Invariants: signatures of keys that are not asked for are ignored; one that says to be of a key that is asked for
 * and does not verify refuses the note; Ed25519 keys (type 1) and Ed25519 cosigners (type 4) alone.
 */
import { concat, equal, fromBase64, fromHex, toBase64, toHex } from "@caisson/vocabulary/bytes";
import { text as utf8 } from "@caisson/vocabulary/frame";
import { sha256 } from "@caisson/vocabulary/merkle";
import { ReleaseError } from "../errors.ts";
import { hashed, verifySignature } from "../keys.ts";

/** A key that signs notes. */
export interface NoteKey {
  name: string;
  /** What its signatures mean: a note's author, or a witness of checkpoints. */
  kind: "note" | "cosignature";
  /** 32 bytes. */
  key: Uint8Array;
}

const kinds = { 1: "note", 4: "cosignature" } as const;
const typeOf = { note: 1, cosignature: 4 } as const;

export interface Note {
  /** With the newline at its end. */
  text: string;
  signatures: readonly { name: string; id: Uint8Array; signature: Uint8Array }[];
}

/** What one known key signed. `time`: when a witness says that it did, seconds since 1970. */
export interface NoteSigner {
  key: NoteKey;
  time?: number;
}

/** Largest note, in characters, and number of signatures. */
const noteLimit = 64 * 1024;
const maximumSignatures = 100;

const malformed = (what: string) => new ReleaseError("note/malformed", `the note: ${what}`);

/** First 4 bytes of SHA-256(name ‖ "\n" ‖ type ‖ key). */
async function keyId({ name, kind, key }: NoteKey): Promise<Uint8Array> {
  return (await sha256(concat(utf8(`${name}\n`), Uint8Array.of(typeOf[kind]), key))).subarray(0, 4);
}

/** Reads a verifier key, `name+id+base64(type ‖ key)`. Throws ReleaseError "note/malformed". */
export async function readNoteKey(text: string): Promise<NoteKey> {
  const { key, id } = parseNoteKey(text);
  if (equal(await keyId(key), id)) return key;
  throw malformed(`the key of ${key.name} has another id than the one beside it`);
}

/** The same without looking at the id, which is only a short name of the rest. */
export function parseNoteKey(text: string): { key: NoteKey; id: Uint8Array } {
  const match = /^([^\s+]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,64})$/.exec(text);
  const bytes = match === null ? undefined : fromBase64(match[3]!);
  const kind = kinds[bytes?.[0] as keyof typeof kinds];
  if (match === null || bytes?.length !== 33 || kind === undefined) {
    throw malformed("a verifier key is NAME+ID+KEY, and the key one of Ed25519 (type 1 or 4)");
  }
  return { key: { name: match[1]!, kind, key: bytes.subarray(1) }, id: fromHex(match[2]!)! };
}

/** The verifier key as text. */
export async function writeNoteKey(key: NoteKey): Promise<string> {
  const encoded = toBase64(concat(Uint8Array.of(typeOf[key.kind]), key.key));
  return `${key.name}+${toHex(await keyId(key))}+${encoded}`;
}

/** Takes a note apart. Throws ReleaseError "note/malformed". */
export function readNote(whole: string): Note {
  if (whole.length > noteLimit) throw malformed(`it has ${whole.length} characters`);
  // A text that is not Unicode, or has controls other than newlines, could be signed as one and shown as another.
  if (/(?!\n)\p{Cc}|\ufffd/u.test(whole) || !whole.isWellFormed()) {
    throw malformed("it has control characters, or is not UTF-8");
  }
  const end = whole.lastIndexOf("\n\n");
  if (end < 0 || !whole.endsWith("\n")) throw malformed("there is no empty line, or no newline at its end");
  const lines = whole.slice(end + 2, -1).split("\n");
  if (lines.length > maximumSignatures) throw malformed(`it has ${lines.length} signatures`);
  return { text: whole.slice(0, end + 1), signatures: lines.map(readSignature) };
}

function readSignature(line: string): Note["signatures"][number] {
  const match = /^— ([^\s+]{1,200}) ([A-Za-z0-9+/=]{8,8192})$/.exec(line);
  const bytes = match === null ? undefined : fromBase64(match[2]!);
  if (match === null || bytes === undefined || bytes.length < 5) {
    throw malformed("a line of signature is — NAME BASE64");
  }
  return { name: match[1]!, id: bytes.subarray(0, 4), signature: bytes.subarray(4) };
}

/** Which of the keys signed. Throws ReleaseError "note/signature" where one of them did not sign what it says. */
export async function signersOfNote(note: Note, keys: readonly NoteKey[]): Promise<NoteSigner[]> {
  const signers: NoteSigner[] = [];
  for (const key of keys) {
    const id = await keyId(key);
    const own = note.signatures.filter(({ name, id: stated }) => name === key.name && equal(stated, id));
    if (own.length === 0) continue;
    for (const { signature } of own) {
      const signer = await verifyOne(note, key, signature);
      if (signer === undefined) {
        throw new ReleaseError("note/signature", `a signature of ${key.name} does not verify`);
      }
      if (!signers.some((known) => known.key === key)) signers.push(signer);
    }
  }
  return signers;
}

async function verifyOne(note: Note, key: NoteKey, signature: Uint8Array): Promise<NoteSigner | undefined> {
  const publicKey = { type: "ed25519", key: toHex(key.key) } as const;
  if (key.kind === "note") {
    return (await verifySignature(publicKey, await hashed(utf8(note.text)), signature)) ? { key } : undefined;
  }
  if (signature.length !== 72) return undefined;
  const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
  if (time > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  const message = await hashed(utf8(cosignedText(note.text, Number(time))));
  return (await verifySignature(publicKey, message, signature.subarray(8)))
    ? { key, time: Number(time) }
    : undefined;
}

/** What a witness signs (https://c2sp.org/tlog-cosignature, Ed25519). `time` in seconds since 1970. */
export const cosignedText = (text: string, time: number): string => `cosignature/v1\ntime ${time}\n${text}`;

/** One line of signature under a note; for a cosigner `signature` begins with the time (u64). */
export async function writeSignature(key: NoteKey, signature: Uint8Array): Promise<string> {
  return `— ${key.name} ${toBase64(concat(await keyId(key), signature))}\n`;
}
