// SPDX-License-Identifier: Apache-2.0
/**
 * Files of age (age-encryption.org/v1, C2SP age.md) for X25519 keys, so that whoever has such a key needs nothing of ours
 * to open them. Every step is OpenSSL's: PID 1 has no compiler, and an implementation in JavaScript takes seconds there.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import { agree, generateSealingKey, HPKE_KEY_SIZE, type SealingKey } from "./hpke.ts";

const intro = "age-encryption.org/v1";
const chunkSize = 64 << 10;
const tagSize = 16;
const fileKeySize = 16;
/** The most recipients of a file that is opened here. */
const recipientLimit = 32;
const cipher = "chacha20-poly1305";
const options = { authTagLength: tagSize };

const derive = (secret: Uint8Array, salt: Uint8Array, info: string): Buffer =>
  Buffer.from(hkdfSync("sha256", secret, salt, info, 32));
/** Base64 without padding, as headers have it. */
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64").replaceAll("=", "");

function unpadded(text: string, size: number): Buffer {
  const bytes = Buffer.from(text, "base64");
  // Every other way to write the same bytes is refused.
  if (bytes.length !== size || base64(bytes) !== text)
    throw new RangeError("not an age file: its base64 is not canonical");
  return bytes;
}

function encryptOnce(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array): Buffer {
  const work = createCipheriv(cipher, key, nonce, options);
  return Buffer.concat([work.update(plain), work.final(), work.getAuthTag()]);
}

function decryptOnce(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array): Buffer {
  if (sealed.length < tagSize) throw new RangeError("not an age file: it is cut off");
  const end = sealed.length - tagSize;
  const work = createDecipheriv(cipher, key, nonce, options);
  work.setAuthTag(sealed.subarray(end));
  return Buffer.concat([work.update(sealed.subarray(0, end)), work.final()]);
}

/** The nonce of a file key's only use. */
const once = Buffer.alloc(12);

const wrappingKey = (shared: Uint8Array, share: Uint8Array, recipient: Uint8Array): Buffer =>
  derive(shared, Buffer.concat([share, recipient]), `${intro}/X25519`);

/** The header up to its MAC, and that. */
const macOf = (fileKey: Uint8Array, header: string): Buffer =>
  createHmac("sha256", derive(fileKey, Buffer.alloc(0), "header"))
    .update(header)
    .digest();

function chunkNonce(counter: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(counter, 7);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/** A file that each of `recipients` (X25519 public keys, 32 bytes) can open. */
export function encryptAge(recipients: readonly Uint8Array[], plain: Uint8Array): Uint8Array {
  const fileKey = randomBytes(fileKeySize);
  const stanzas = recipients.map((recipient) => {
    const own = generateSealingKey();
    const key = wrappingKey(agree(own, recipient), own.publicKey, recipient);
    return `-> X25519 ${base64(own.publicKey)}\n${base64(encryptOnce(key, once, fileKey))}\n`;
  });
  const header = `${intro}\n${stanzas.join("")}---`;
  const nonce = randomBytes(16);
  const key = derive(fileKey, nonce, "payload");
  const chunks: Buffer[] = [];
  for (let at = 0, counter = 0; at === 0 || at < plain.length; at += chunkSize, counter++) {
    const last = at + chunkSize >= plain.length;
    chunks.push(encryptOnce(key, chunkNonce(counter, last), plain.subarray(at, at + chunkSize)));
  }
  return Buffer.concat([Buffer.from(`${header} ${base64(macOf(fileKey, header))}\n`), nonce, ...chunks]);
}

/** Opens a file; undefined when it is not for this key. Throws for what is not such a file, or was altered. */
export function decryptAge(own: SealingKey, file: Uint8Array): Uint8Array | undefined {
  const bytes = Buffer.from(file);
  const header = headerOf(bytes);
  const fileKey = unwrap(own, header.stanzas);
  if (fileKey === undefined) return undefined;
  if (!timingSafeEqual(macOf(fileKey, header.covered), header.mac))
    throw new RangeError("the header was altered");
  const payload = bytes.subarray(header.size);
  if (payload.length < 16 + tagSize) throw new RangeError("not an age file: it is cut off");
  const key = derive(fileKey, payload.subarray(0, 16), "payload");
  const parts: Buffer[] = [];
  const sealedSize = chunkSize + tagSize;
  for (let at = 16, counter = 0; at < payload.length; at += sealedSize, counter++) {
    const sealed = payload.subarray(at, at + sealedSize);
    const part = decryptOnce(key, chunkNonce(counter, at + sealedSize >= payload.length), sealed);
    if (part.length === 0 && counter > 0) throw new RangeError("not an age file: its last part is empty");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

interface Header {
  stanzas: { share: Buffer; body: Buffer }[];
  /** What the MAC is over. */
  covered: string;
  mac: Buffer;
  size: number;
}

const headerPattern = new RegExp(
  `^${intro.replace(/[./]/g, "\\$&")}\\n((?:-> X25519 [A-Za-z0-9+/]{43}\\n[A-Za-z0-9+/]{43}\\n){1,${recipientLimit}})--- ([A-Za-z0-9+/]{43})\\n`,
);

function headerOf(bytes: Buffer): Header {
  const text = bytes.subarray(0, 128 + recipientLimit * 128).toString("latin1");
  const [whole, stanzas, mac] = headerPattern.exec(text) ?? [];
  if (whole === undefined || stanzas === undefined || mac === undefined)
    throw new RangeError("not an age file, or not one for X25519 keys alone");
  const lines = stanzas.trimEnd().split("\n");
  return {
    stanzas: lines.flatMap((line, at) =>
      at % 2 === 1
        ? []
        : [
            {
              share: unpadded(line.slice("-> X25519 ".length), HPKE_KEY_SIZE),
              body: unpadded(lines[at + 1]!, fileKeySize + tagSize),
            },
          ],
    ),
    covered: `${intro}\n${stanzas}---`,
    mac: unpadded(mac, 32),
    size: whole.length,
  };
}

function unwrap(own: SealingKey, stanzas: Header["stanzas"]): Buffer | undefined {
  for (const { share, body } of stanzas) {
    const key = wrappingKey(agree(own, share), share, own.publicKey);
    try {
      return decryptOnce(key, once, body);
    } catch {
      // Somebody else's.
    }
  }
  return undefined;
}
