// SPDX-License-Identifier: Apache-2.0
/**
 * The first MiB of a volume's disk, which is not encrypted: two places for the KMS's newest ticket, written in turn so that
 * one is always whole, and one for the record that finishes a stamp that was torn.
 *
 * Invariants: what is read is bounded before it is parsed; a ticket counts when the KMS's identity signed it, a record when
 * it opens under a key of the volume; anything else is as if there were nothing.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { verifySignature } from "@caisson/protocol/ed25519";
import { type Ticket, ticketSchema, ticketTranscript } from "@caisson/protocol/volumes";
import { frame, u64 } from "@caisson/vocabulary/frame";
import { type Block, blockSize, type Stamp } from "./btrfs.ts";

const ticketPlaces = [4096, 8192] as const;
const ticketBytes = 4096;
const redoPlace = 65_536;
const redo = { nonce: 12, tag: 16, body: 24 + 2 * blockSize } as const;
const redoBytes = redo.nonce + redo.body + redo.tag;
const redoName = frame("caisson/volume-redo/v1");

/** The bytes of one place: length (u32, big endian), JSON, zeros. */
export function encodeTicket(ticket: Ticket): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(ticket));
  const place = new Uint8Array(ticketBytes);
  new DataView(place.buffer).setUint32(0, json.length);
  place.set(json, 4);
  return place;
}

/** The ticket in a place that this KMS (32 bytes of identity) signed; undefined for everything else. */
export function decodeTicket(place: Uint8Array, identity: Uint8Array): Ticket | undefined {
  const length = new DataView(place.buffer, place.byteOffset, place.byteLength).getUint32(0);
  if (length === 0 || length > ticketBytes - 4) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(place.subarray(4, 4 + length));
    const result = ticketSchema.safeParse(JSON.parse(text));
    if (!result.success) return undefined;
    const { signature, ...rest } = result.data;
    const signed = verifySignature(identity, ticketTranscript(rest), Uint8Array.fromHex(signature));
    return signed ? result.data : undefined;
  } catch {
    return undefined;
  }
}

const newer = (a: Ticket, b: Ticket): boolean =>
  BigInt(a.epoch) !== BigInt(b.epoch)
    ? BigInt(a.epoch) > BigInt(b.epoch)
    : BigInt(a.anchor) > BigInt(b.anchor);

async function readPlace(file: FileHandle, at: number, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  await file.read(bytes, 0, size, at);
  return bytes;
}

/** The newest ticket of this KMS on a disk, and the place where the next one goes. */
export async function readTicket(
  file: FileHandle,
  identity: Uint8Array,
): Promise<{ ticket: Ticket | undefined; next: 0 | 1 }> {
  const [first, second] = await Promise.all(
    ticketPlaces.map(async (at) => decodeTicket(await readPlace(file, at, ticketBytes), identity)),
  );
  if (first === undefined) return { ticket: second, next: 0 };
  if (second === undefined) return { ticket: first, next: 1 };
  return newer(first, second) ? { ticket: first, next: 1 } : { ticket: second, next: 0 };
}

/** Writes a ticket, durably. */
export async function writeTicket(file: FileHandle, ticket: Ticket, place: 0 | 1): Promise<void> {
  await file.write(encodeTicket(ticket), 0, ticketBytes, ticketPlaces[place]);
  await file.sync();
}

/** A stamp under the volume's key for this (32 bytes). */
export function sealRedo(key: Uint8Array, stamp: Pick<Stamp, "to" | "root" | "superblock">): Uint8Array {
  const body = Buffer.concat([
    u64(stamp.to),
    u64(stamp.root.at),
    u64(stamp.superblock.at),
    stamp.root.bytes,
    stamp.superblock.bytes,
  ]);
  const nonce = randomBytes(redo.nonce);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(redoName);
  return Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]);
}

/** A stamp that was begun: its generation, its root and its superblock. */
export interface Redo {
  to: bigint;
  blocks: [Block, Block];
}

/** The stamp that a record holds; undefined when the bytes are not a record of this volume. */
export function openRedo(key: Uint8Array, bytes: Uint8Array): Redo | undefined {
  if (bytes.length !== redoBytes) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, redo.nonce)).setAAD(redoName);
  decipher.setAuthTag(bytes.subarray(redo.nonce + redo.body));
  let body: Buffer;
  try {
    body = Buffer.concat([
      decipher.update(bytes.subarray(redo.nonce, redo.nonce + redo.body)),
      decipher.final(),
    ]);
  } catch {
    return undefined;
  }
  const block = (index: 0 | 1): Block => ({
    at: Number(body.readBigUInt64BE(8 + 8 * index)),
    bytes: body.subarray(24 + index * blockSize, 24 + (index + 1) * blockSize),
  });
  return { to: body.readBigUInt64BE(0), blocks: [block(0), block(1)] };
}

export const readRedo = async (file: FileHandle, key: Uint8Array) =>
  openRedo(key, await readPlace(file, redoPlace, redoBytes));

/** Writes the record of a stamp, durably, before the stamp itself is begun. */
export async function writeRedo(file: FileHandle, key: Uint8Array, stamp: Stamp): Promise<void> {
  await file.write(sealRedo(key, stamp), 0, redoBytes, redoPlace);
  await file.sync();
}
