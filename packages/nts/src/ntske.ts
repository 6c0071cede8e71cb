// SPDX-License-Identifier: Apache-2.0
/**
 * NTS key establishment messages (RFC 8915, section 4): records of type, length and body over TLS.
 *
 * Pure: bytes in, an answer or an NtsError out. A message is at most 16 KiB; it ends with exactly one End of Message
 * record and nothing may follow it; records that may occur once are refused when they occur twice.
 */
import { NtsError } from "./errors.ts";

/** TLS application protocol and exporter label of NTS (RFC 8915, sections 4 and 5.1). */
export const alpn = "ntske/1";
export const exporterLabel = "EXPORTER-network-time-security";

export const recordType = {
  endOfMessage: 0,
  nextProtocol: 1,
  error: 2,
  warning: 3,
  aead: 4,
  cookie: 5,
  server: 6,
  port: 7,
} as const;

const protocolNtpv4 = 0;
/** IANA AEAD registry: AEAD_AES_SIV_CMAC_256. */
const aeadAesSivCmac256 = 15;

export const maxMessageBytes = 16 * 1024;
/** A client keeps at most eight cookies (RFC 8915, section 6); what a server sends beyond that is dropped. */
export const maxCookies = 8;
/** Larger cookies would not fit into an NTP packet that crosses the Internet in one piece. */
export const maxCookieBytes = 1024;

/** RFC 8915, section 4.1.3. */
const errorCodes = ["unrecognized critical record", "bad request", "internal server error"];

export interface KeyEstablishmentAnswer {
  /** One to eight. */
  cookies: Uint8Array[];
  /** Name or address of the NTP server; the key establishment server itself when missing. */
  server?: string;
  /** UDP port of the NTP server; 123 when missing. */
  port?: number;
}

/** Context of the TLS exporter: NTPv4, AES-SIV-CMAC-256, then 0 for client to server and 1 for the way back. */
export function exporterContext(direction: "client-to-server" | "server-to-client"): Uint8Array {
  return Uint8Array.of(0, protocolNtpv4, 0, aeadAesSivCmac256, direction === "client-to-server" ? 0 : 1);
}

/** One record; `critical` sets the top bit of the type. */
export function encodeRecord(type: number, body: Uint8Array, critical: boolean): Uint8Array {
  const record = new Uint8Array(4 + body.length);
  const view = new DataView(record.buffer);
  view.setUint16(0, type | (critical ? 0x8000 : 0));
  view.setUint16(2, body.length);
  record.set(body, 4);
  return record;
}

/** The only request that this client sends: NTPv4, protected by AES-SIV-CMAC-256. */
export function encodeRequest(): Uint8Array {
  return Buffer.concat([
    encodeRecord(recordType.nextProtocol, Uint8Array.of(0, protocolNtpv4), true),
    encodeRecord(recordType.aead, Uint8Array.of(0, aeadAesSivCmac256), true),
    encodeRecord(recordType.endOfMessage, new Uint8Array(0), true),
  ]);
}

/**
 * Length in bytes of the message at the start of `received`, or undefined when its End of Message record has not
 * come yet. Throws `ke/malformed` as soon as it cannot become a message of allowed size.
 */
export function messageLength(received: Uint8Array): number | undefined {
  const view = new DataView(received.buffer, received.byteOffset, received.byteLength);
  let offset = 0;
  while (offset + 4 <= received.length) {
    const type = view.getUint16(offset) & 0x7fff;
    offset += 4 + view.getUint16(offset + 2);
    if (offset > maxMessageBytes) break;
    if (type === recordType.endOfMessage && offset <= received.length) return offset;
  }
  if (offset > maxMessageBytes || received.length > maxMessageBytes) {
    throw new NtsError("ke/malformed", `the answer is larger than ${maxMessageBytes} bytes`);
  }
  return undefined;
}

const malformed = (what: string): NtsError => new NtsError("ke/malformed", what);

interface KeRecord {
  type: number;
  critical: boolean;
  body: Uint8Array;
}

/** The records of a message one by one, up to End of Message, behind which nothing may follow. */
function* records(message: Uint8Array): Generator<KeRecord> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  for (let offset = 0; ; ) {
    if (offset + 4 > message.length) throw malformed("the answer ends before its End of Message record");
    const [head, start] = [view.getUint16(offset), offset + 4];
    const type = head & 0x7fff;
    offset = start + view.getUint16(offset + 2);
    if (offset > message.length) throw malformed(`record of type ${type} is cut off`);
    yield { type, critical: (head & 0x8000) !== 0, body: message.subarray(start, offset) };
    if (type !== recordType.endOfMessage) continue;
    if (offset !== message.length) throw malformed(`${message.length - offset} bytes after End of Message`);
    return;
  }
}

function uint16({ type, body }: KeRecord): number {
  if (body.length !== 2) throw malformed(`record of type ${type} has ${body.length} bytes instead of 2`);
  return (body[0]! << 8) | body[1]!;
}

/** What each type of record says, and what it must be (RFC 8915, section 4.1). */
const readers: Record<number, (record: KeRecord, answer: KeyEstablishmentAnswer) => void> = {
  [recordType.endOfMessage]({ critical, body }) {
    if (body.length !== 0 || !critical) throw malformed("End of Message must be critical and empty");
  },
  [recordType.nextProtocol](record) {
    if (!record.critical) throw malformed("Next Protocol must be critical");
    // An empty list says that the server has nothing of what we offered, here as well as for AEAD.
    if (record.body.length === 0 || uint16(record) !== protocolNtpv4) {
      throw new NtsError("ke/negotiation", "the server does not speak NTPv4");
    }
  },
  [recordType.aead](record) {
    if (record.body.length === 0) {
      throw new NtsError("ke/negotiation", "the server does not have AES-SIV-CMAC-256");
    }
    const chosen = uint16(record);
    if (chosen !== aeadAesSivCmac256) {
      throw new NtsError("ke/negotiation", `the server chose AEAD ${chosen}, which we did not offer`);
    }
  },
  [recordType.error](record) {
    const code = uint16(record);
    throw new NtsError("ke/refused", `the server answered: ${errorCodes[code] ?? `error ${code}`}`);
  },
  [recordType.warning](record) {
    // No warning is defined, and one that is not understood counts as an error (RFC 8915, section 4.1.4).
    throw new NtsError("ke/refused", `the server answered with warning ${uint16(record)}`);
  },
  [recordType.cookie]({ body }, { cookies }) {
    if (body.length === 0 || body.length > maxCookieBytes)
      throw malformed(`a cookie has ${body.length} bytes`);
    if (cookies.length < maxCookies) cookies.push(body.slice());
  },
  [recordType.server]({ body }, answer) {
    answer.server = asciiName(body);
  },
  [recordType.port](record, answer) {
    answer.port = uint16(record);
    if (answer.port === 0) throw malformed("the NTP port is 0");
  },
};

/**
 * Decodes a whole answer. Throws NtsError `ke/malformed`, `ke/critical` (a critical record that we do not know),
 * `ke/refused` (the server sent an error or a warning) or `ke/negotiation` (other protocol or algorithm, no cookie).
 */
export function decodeAnswer(message: Uint8Array): KeyEstablishmentAnswer {
  const seen = new Set<number>();
  const answer: KeyEstablishmentAnswer = { cookies: [] };
  for (const record of records(message)) {
    const { type, critical } = record;
    const read = readers[type];
    if (read === undefined) {
      if (critical) throw new NtsError("ke/critical", `critical record of unknown type ${type}`);
      continue; // unknown records without the critical bit are ignored, however often they occur
    }
    if (seen.has(type) && type !== recordType.cookie) throw malformed(`record of type ${type} occurs twice`);
    seen.add(type);
    read(record, answer);
  }
  if (!seen.has(recordType.nextProtocol)) throw malformed("the answer names no next protocol");
  if (!seen.has(recordType.aead)) throw malformed("the answer names no AEAD algorithm");
  if (answer.cookies.length === 0) throw new NtsError("ke/negotiation", "the server sent no cookie");
  return answer;
}

/** An address literal or a fully qualified name in ASCII (RFC 8915, section 4.1.7). */
function asciiName(body: Uint8Array): string {
  const name = Buffer.from(body).toString("latin1");
  if (!/^[0-9A-Za-z.:_-]{1,253}$/.test(name)) throw malformed("the NTP server's name is not a name");
  return name;
}
