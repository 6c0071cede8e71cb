// SPDX-License-Identifier: Apache-2.0
/**
 * Netlink messages as bytes (netlink(7)): a header, a fixed part of the family, attributes. All integers of headers
 * and of rtnetlink are the machine's (little endian); nf_tables has its own in network order. Pure.
 */

const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
export const NLM_F_CREATE = 0x400;
export const NLM_F_EXCL = 0x200;
export const NLM_F_APPEND = 0x800;
const NLA_F_NESTED = 0x8000;

const aligned = (size: number): number => (size + 3) & ~3;

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function be64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export function be16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** With its NUL. */
export const text = (value: string): Buffer => Buffer.from(`${value}\0`);

/** An IPv4 address in network order. */
export const address = (dotted: string): Buffer => Buffer.from(dotted.split(".").map(Number));

/** One attribute: length, type, value, padded to four bytes. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(aligned(4 + value.length));
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

/** An attribute that holds attributes. */
export const nested = (type: number, ...values: readonly Uint8Array[]): Buffer =>
  attribute(type | NLA_F_NESTED, Buffer.concat(values));

export interface Message {
  type: number;
  flags: number;
  /** Fixed part and attributes. */
  body: readonly Uint8Array[];
  /** Whether the kernel is to acknowledge it; the bounds of a batch are not. */
  acknowledge: boolean;
}

/** Messages one after the other, numbered from 1. */
export function encode(messages: readonly Message[]): Buffer {
  return Buffer.concat(
    messages.map(({ type, flags, body, acknowledge }, index) => {
      const content = Buffer.concat(body);
      const bytes = Buffer.alloc(aligned(16 + content.length));
      bytes.writeUInt32LE(16 + content.length, 0);
      bytes.writeUInt16LE(type, 4);
      bytes.writeUInt16LE(NLM_F_REQUEST | flags | (acknowledge ? NLM_F_ACK : 0), 6);
      bytes.writeUInt32LE(index + 1, 8);
      bytes.set(content, 16);
      return bytes;
    }),
  );
}

/** How many of them are acknowledged. */
export const acknowledgements = (messages: readonly Message[]): number =>
  messages.filter(({ acknowledge }) => acknowledge).length;
