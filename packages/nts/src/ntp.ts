// SPDX-License-Identifier: Apache-2.0
/**
 * NTPv4 packets with NTS extension fields (RFC 5905, section 7.3; RFC 7822; RFC 8915, section 5).
 *
 * Pure. A reply is looked at in this order, and nothing of it is used before the step that protects it: size and
 * version; our transmit timestamp and unique identifier (64 and 256 random bits, so that a stranger cannot make us
 * do cryptography); the authenticator over everything before it; only then the contents. Fields behind the
 * authenticator are not authenticated and therefore never read.
 */
import { siv as defaultSiv } from "#siv";
import { NtsError } from "./errors.ts";
import { maxCookieBytes, maxCookies } from "./ntske.ts";
import { type Siv, tagBytes } from "./siv-types.ts";

/** RFC 8915, section 7.6. */
export const fieldType = {
  uniqueIdentifier: 0x0104,
  cookie: 0x0204,
  cookiePlaceholder: 0x0304,
  authenticator: 0x0404,
} as const;

const headerBytes = 48;
export const uniqueIdentifierBytes = 32;
export const nonceBytes = 16;
/** What fits through any path without fragments: IPv6's 1280 less the IPv6 and UDP headers. */
const maxRequestBytes = 1232;

/**
 * The codes of stratum 0 that forbid to go on asking; all others, INIT and STEP of a server that has just started
 * among them, mean nothing for the protocol (RFC 5905, section 7.4).
 */
const refusals = new Set(["DENY", "RSTR", "RATE"]);

export interface Request {
  key: Uint8Array;
  cookie: Uint8Array;
  /** How many more cookies to ask for; fewer are asked for when the packet would become too large. */
  placeholders: number;
  /** 32 random bytes, never used again. */
  uniqueIdentifier: Uint8Array;
  /** 16 random bytes. */
  nonce: Uint8Array;
  /** Eight random bytes instead of our time, which is nobody's business; the server returns them as origin. */
  transmit: Uint8Array;
}

export interface Reply {
  /** 0 none, 1 the day has 61 seconds, 2 it has 59. */
  leap: number;
  stratum: number;
  /** Milliseconds. */
  rootDelay: number;
  rootDispersion: number;
  /** How coarse the server's clock is: each of its timestamps may be wrong by this, either way. */
  precision: number;
  /** Unix time in milliseconds at which the server received our request and sent its reply, as it says. */
  receive: number;
  transmit: number;
  cookies: Uint8Array[];
}

/** One extension field: type, length with header and padding, value padded with zeros to four bytes. */
export function encodeField(type: number, value: Uint8Array): Uint8Array {
  const field = new Uint8Array(4 + Math.ceil(value.length / 4) * 4);
  const view = new DataView(field.buffer);
  view.setUint16(0, type);
  view.setUint16(2, field.length);
  field.set(value, 4);
  return field;
}

/** The NTS Authenticator field for `packet`, which it must follow directly; `plaintext` is sent encrypted. */
export function encodeAuthenticator(
  packet: Uint8Array,
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  siv: Siv = defaultSiv,
): Uint8Array {
  const ciphertext = siv.seal(key, [packet, nonce], plaintext);
  const padded = (length: number) => Math.ceil(length / 4) * 4;
  const value = new Uint8Array(4 + padded(nonce.length) + padded(ciphertext.length));
  const view = new DataView(value.buffer);
  view.setUint16(0, nonce.length);
  view.setUint16(2, ciphertext.length);
  value.set(nonce, 4);
  value.set(ciphertext, 4 + padded(nonce.length));
  return encodeField(fieldType.authenticator, value);
}

/** A client packet (mode 3) that says nothing about this machine. */
export function encodeRequest(request: Request, siv: Siv = defaultSiv): Uint8Array {
  const header = new Uint8Array(headerBytes);
  header[0] = (4 << 3) | 3;
  header.set(request.transmit, 40);
  const cookie = encodeField(fieldType.cookie, request.cookie);
  const authenticatorBytes = 4 + 4 + nonceBytes + tagBytes;
  const room = maxRequestBytes - headerBytes - 4 - uniqueIdentifierBytes - cookie.length - authenticatorBytes;
  const placeholders = Math.max(0, Math.min(request.placeholders, Math.floor(room / cookie.length)));
  const packet = Buffer.concat([
    header,
    encodeField(fieldType.uniqueIdentifier, request.uniqueIdentifier),
    cookie,
    ...Array.from({ length: placeholders }, () =>
      encodeField(fieldType.cookiePlaceholder, new Uint8Array(cookie.length - 4)),
    ),
  ]);
  return Buffer.concat([
    packet,
    encodeAuthenticator(packet, request.key, request.nonce, new Uint8Array(0), siv),
  ]);
}

/**
 * Checks and decodes a reply to `request`. `key` is the server-to-client key; `near` (Unix milliseconds, ± 68 years)
 * decides the NTP era, which ends in 2036.
 *
 * Throws NtsError: `ntp/malformed` and `ntp/mismatch` (not a reply to this request: keep listening),
 * `ntp/authentication` (keep listening), `ntp/nak` (not authenticated: keep listening, remember it), `ntp/kiss`
 * (authenticated: the server wants to be left alone) and `ntp/unsynchronized` (authenticated: not yet).
 */
export function decodeReply(
  packet: Uint8Array,
  request: Pick<Request, "uniqueIdentifier" | "transmit">,
  key: Uint8Array,
  near: number,
  siv: Siv = defaultSiv,
): Reply {
  const malformed = (what: string) => new NtsError("ntp/malformed", what);
  if (packet.length < headerBytes || packet.length > 65535) throw malformed(`${packet.length} bytes`);
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const [mode, version, leap] = [packet[0]! & 7, (packet[0]! >> 3) & 7, packet[0]! >> 6];
  if (mode !== 4 || version !== 4) throw malformed(`mode ${mode}, version ${version}`);
  if (!equal(packet.subarray(24, 32), request.transmit)) {
    throw new NtsError("ntp/mismatch", "the origin timestamp is not the one that we sent");
  }

  const sealed = findAuthenticator(packet, request);
  const stratum = packet[1]!;
  const kiss = Buffer.from(packet.subarray(12, 16)).toString("latin1");
  if (sealed === undefined) {
    if (stratum === 0 && kiss === "NTSN") throw new NtsError("ntp/nak", "the server refused our cookie");
    throw new NtsError("ntp/authentication", "the reply is not authenticated");
  }
  const plaintext = openAuthenticator(packet.subarray(0, sealed.at), sealed.value, key, siv);

  if (stratum === 0 && refusals.has(kiss)) {
    throw new NtsError("ntp/kiss", `the server refuses us: ${kiss}`);
  }
  if (stratum === 0 || stratum > 15 || leap === 3) {
    const says = stratum === 0 ? `${JSON.stringify(kiss)}, leap ${leap}` : `stratum ${stratum}, leap ${leap}`;
    throw new NtsError("ntp/unsynchronized", `the server is not synchronized (${says})`);
  }
  const precision = 2 ** view.getInt8(3) * 1000;
  const short = (at: number) => (view.getUint32(at) / 65536) * 1000;
  const receive = unixMilliseconds(view.getBigUint64(32), near);
  const transmit = unixMilliseconds(view.getBigUint64(40), near);
  if (transmit < receive - timestampsApart(precision)) {
    throw malformed("the reply was sent before the request was received");
  }

  const cookies: Uint8Array[] = [];
  for (const { type, value } of fields(plaintext, 0)) {
    const fits = value.length > 0 && value.length <= maxCookieBytes;
    if (type === fieldType.cookie && fits && cookies.length < maxCookies) cookies.push(value.slice());
  }
  return {
    leap,
    stratum,
    rootDelay: short(4),
    rootDispersion: short(8),
    precision,
    receive,
    transmit,
    cookies,
  };
}

/** The authenticator of a reply whose unique identifier is the request's; undefined when it has none. Throws `ntp/mismatch`. */
function findAuthenticator(
  packet: Uint8Array,
  request: Pick<Request, "uniqueIdentifier">,
): { at: number; value: Uint8Array } | undefined {
  let identified = false;
  let sealed: { at: number; value: Uint8Array } | undefined;
  for (const field of fields(packet, headerBytes)) {
    if (field.type === fieldType.uniqueIdentifier) {
      if (identified || !equal(field.value, request.uniqueIdentifier)) {
        throw new NtsError("ntp/mismatch", "the unique identifier is not the one that we sent");
      }
      identified = true;
    }
    if (field.type === fieldType.authenticator) {
      sealed = field;
      break;
    }
  }
  if (!identified) throw new NtsError("ntp/mismatch", "no unique identifier");
  return sealed;
}

/**
 * By how much two timestamps of one clock can contradict the order in which they were taken, in milliseconds: what
 * lies below the precision is random (RFC 5905, section 6), in both.
 */
export const timestampsApart = (precision: number): number => 2 * precision;

function openAuthenticator(packet: Uint8Array, value: Uint8Array, key: Uint8Array, siv: Siv): Uint8Array {
  const forged = () => new NtsError("ntp/authentication", "the authenticator does not match");
  if (value.length < 4) throw forged();
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const [nonceLength, ciphertextLength] = [view.getUint16(0), view.getUint16(2)];
  const ciphertextAt = 4 + Math.ceil(nonceLength / 4) * 4;
  if (nonceLength === 0 || ciphertextAt + ciphertextLength > value.length) throw forged();
  const nonce = value.subarray(4, 4 + nonceLength);
  try {
    return siv.open(key, [packet, nonce], value.subarray(ciphertextAt, ciphertextAt + ciphertextLength));
  } catch (error) {
    throw error instanceof NtsError ? forged() : error;
  }
}

/** Extension fields from `offset` to the end. Throws `ntp/malformed` when one does not fit. */
export function* fields(
  packet: Uint8Array,
  offset: number,
): Generator<{ type: number; at: number; value: Uint8Array }> {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  for (let at = offset; at < packet.length; ) {
    const length = at + 4 <= packet.length ? view.getUint16(at + 2) : 0;
    if (length < 4 || length % 4 !== 0 || at + length > packet.length) {
      throw new NtsError("ntp/malformed", `extension field at byte ${at} does not fit`);
    }
    yield { type: view.getUint16(at), at, value: packet.subarray(at + 4, at + length) };
    at += length;
  }
}

/** Seconds from 1900, where NTP's era 0 begins, to 1970. */
const ntpToUnixSeconds = 2_208_988_800;
const eraSeconds = 2 ** 32;

/** Unix milliseconds of an NTP timestamp: seconds and fraction in the era that brings it closest to `near`. */
export function unixMilliseconds(timestamp: bigint, near: number): number {
  const seconds = Number(timestamp >> 32n) - ntpToUnixSeconds;
  const era = Math.round((near / 1000 - seconds) / eraSeconds);
  return (seconds + era * eraSeconds) * 1000 + (Number(timestamp & 0xffff_ffffn) / 2 ** 32) * 1000;
}

/** NTP timestamp of Unix milliseconds; the era is lost. */
export function ntpTimestamp(milliseconds: number): bigint {
  const seconds = Math.floor(milliseconds / 1000);
  const fraction = Math.floor(((milliseconds - seconds * 1000) / 1000) * 2 ** 32);
  return (BigInt.asUintN(32, BigInt(seconds + ntpToUnixSeconds)) << 32n) | BigInt(fraction);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
