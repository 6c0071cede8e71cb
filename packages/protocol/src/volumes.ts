// SPDX-License-Identifier: Apache-2.0
/**
 * Persistent volumes, the messages: what a KMS grants at an opening, how a guest anchors what it wrote, and the ticket by
 * which the KMS says later what it knew. docs/state.md tells the story.
 *
 * Invariants: a generation is `epoch · 2^40 + n`, and an epoch is issued once, so that no generation is ever used twice;
 * a ticket is signed by the KMS's identity over all of its fields; an anchor is authenticated under a key of its epoch.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { frame, text, u32, u64 } from "@caisson/vocabulary/frame";
import * as z from "zod/mini";
import { hex } from "./hex.ts";

export const volumeVersion = "caisson/volume/v1";

/** Where a guest anchors, POST. */
export const anchorPath = "/v1/volume/anchor";

/** Bytes of a volume's disk before the encrypted part: host and guest agree on it. */
export const reservedSize = 2 ** 20;

/** The most volumes that one image can have. */
export const volumeLimit = 8;

/** Bits of a generation that count an opening's own commits. */
const commitBits = 40n;
/** Epochs are below this, so that generations stay below 2^63. */
export const epochLimit = 1n << 23n;

/** The first generation of an opening: the stamp. */
export const firstGeneration = (epoch: bigint): bigint => epoch << commitBits;

/** The opening that wrote a generation. */
export const epochOf = (generation: bigint): bigint => generation >> commitBits;

/** A number below 2^63, in decimal. */
const decimal = /^(?:0|[1-9]\d{0,18})$/;
const number = z
  .string()
  .check(
    z.refine((value) => decimal.test(value) && BigInt(value) < 1n << 63n, "expected a number below 2^63"),
  );
const version = z.literal(volumeVersion);
/** Whose volume it is: an application's id. */
const owner = z.string().check(z.regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/));
export const volumeName = z.string().check(z.regex(/^[a-z0-9][a-z0-9_.-]{0,62}$/));

export const ticketSchema = z.strictObject({
  version,
  /** What the KMS calls it: 32 random bytes. */
  volume: hex(32),
  /** Whose it is, of which instance (the seed), and its name there. */
  owner,
  seed: hex(20),
  name: volumeName,
  secretVersion: z.int().check(z.gte(1), z.lte(0xffff_ffff)),
  /** The newest opening, and the newest generation that it (or one before it) anchored. */
  epoch: number,
  anchor: number,
  /** Hash over everything that the KMS ever noted about this volume. */
  chain: hex(32),
  signature: hex(64),
});
export type Ticket = z.infer<typeof ticketSchema>;

/** What the KMS signs. */
export function ticketTranscript(ticket: Omit<Ticket, "signature">): Uint8Array {
  return frame(
    `${volumeVersion}/ticket`,
    Uint8Array.fromHex(ticket.volume),
    Uint8Array.fromHex(ticket.owner),
    Uint8Array.fromHex(ticket.seed),
    text(ticket.name),
    u32(ticket.secretVersion),
    u64(BigInt(ticket.epoch)),
    u64(BigInt(ticket.anchor)),
    Uint8Array.fromHex(ticket.chain),
  );
}

/**
 * What a guest learns about a volume that it may open. Its secrets are in the seal. The owner is the application that
 * asked, or the one that the KMS's policy names for it.
 */
export const grantSchema = z.strictObject({
  owner,
  name: volumeName,
  volume: hex(32),
  /** "creating": nothing of it was ever anchored, and only then may a guest make a file system. */
  state: z.enum(["creating", "live"]),
  secretVersion: z.int().check(z.gte(1), z.lte(0xffff_ffff)),
  epoch: number,
  anchor: number,
});
export type Grant = z.infer<typeof grantSchema>;

export const anchorRequestSchema = z.strictObject({
  version,
  volume: hex(32),
  owner,
  seed: hex(20),
  name: volumeName,
  epoch: number,
  generation: number,
  mac: hex(32),
});
export type AnchorRequest = z.infer<typeof anchorRequestSchema>;

/** HMAC-SHA-256 under the epoch's anchor key, 32 bytes. */
export function anchorMac(key: Uint8Array, request: Omit<AnchorRequest, "mac">): Uint8Array {
  const bytes = frame(
    `${volumeVersion}/anchor`,
    Uint8Array.fromHex(request.volume),
    Uint8Array.fromHex(request.owner),
    Uint8Array.fromHex(request.seed),
    text(request.name),
    u64(BigInt(request.epoch)),
    u64(BigInt(request.generation)),
  );
  return new Uint8Array(createHmac("sha256", key).update(bytes).digest());
}

/** The request of one opening, with its MAC under that opening's key. */
export function anchorRequest(
  anchorKey: Uint8Array,
  { owner, seed, name, volume, epoch }: Pick<AnchorRequest, "owner" | "seed" | "name" | "volume" | "epoch">,
  generation: bigint,
): AnchorRequest {
  const unsigned = {
    version: volumeVersion,
    owner,
    seed,
    name,
    volume,
    epoch,
    generation: String(generation),
  } as const;
  return { ...unsigned, mac: anchorMac(anchorKey, unsigned).toHex() };
}

/** Whether a request was made with that key. */
export const isAuthentic = (key: Uint8Array, { mac, ...request }: AnchorRequest): boolean =>
  timingSafeEqual(anchorMac(key, request), Uint8Array.fromHex(mac));

/** Payload of the event `volumes`: which volumes of which instance this machine opens. */
export function volumesPayload(seed: string, names: readonly string[]): Uint8Array {
  return text(canonicalJson({ names: [...names].sort(), seed }));
}

const payloadSchema = z.strictObject({
  names: z.array(volumeName).check(z.minLength(1), z.maxLength(volumeLimit)),
  seed: hex(20),
});

/** The same, read; undefined when it is not one. */
export function readVolumesPayload(payload: Uint8Array): { names: string[]; seed: string } | undefined {
  try {
    const result = payloadSchema.safeParse(
      JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)),
    );
    if (!result.success) return undefined;
    const { names, seed } = result.data;
    // One list has one payload.
    return Buffer.compare(volumesPayload(seed, names), payload) === 0 && new Set(names).size === names.length
      ? { names, seed }
      : undefined;
  } catch {
    return undefined;
  }
}
