// SPDX-License-Identifier: Apache-2.0
/**
 * The instance document: what the host tells one guest at start. It is not measured as a whole and not trusted;
 * every field that matters is measured by the stage that uses it.
 *
 * On the raw block device: magic `CAISSON1` (8 bytes), length (u32 little endian), that many bytes of UTF-8 JSON,
 * then zeros to the end of the sector. The guest never mounts a file system of the host.
 */
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import * as z from "zod/mini";
import { hex } from "./hex.ts";

export type ProtocolErrorCode = "instance/magic" | "instance/size" | "instance/content";

/** A document from the host that does not follow its format. */
export class InstanceError extends Failure<ProtocolErrorCode, "input"> {
  override readonly name = "InstanceError";
  constructor(code: ProtocolErrorCode, message: string) {
    super(code, "input", message);
  }
}

const schema = z.strictObject({
  version: z.literal("caisson/instance/v1"),
  /** Distinguishes instances of one application; enters the instance id. */
  seed: hex(20),
  kms: z.optional(z.strictObject({ url: z.string().check(z.maxLength(512)), identity: z.optional(hex(32)) })),
  /** Time sources, accepted by development images only; checked by `@caisson/nts`. */
  time: z.optional(z.unknown()),
  /** A nonce of whoever starts a development image: PID 1 answers with evidence over it, on the console. */
  challenge: z.optional(hex(32)),
  /** What `caisson exec` shows to a development image. */
  exec: z.optional(hex(32)),
  /** The bundle of the image's release, which evidence carries on; whoever judges evidence reads it. */
  release: z.optional(z.unknown()),
  /** What the vendor publishes about this platform, which evidence carries on; whoever judges evidence verifies it. */
  collateral: z.optional(z.unknown()),
  /** The owners' sealed secrets, an envelope for the KMS. */
  secrets: z.optional(z.unknown()),
});

export type Instance = z.infer<typeof schema>;

const magic = new TextEncoder().encode("CAISSON1");
const headerSize = magic.length + 4;

/** Largest document, in bytes; more is refused before it is read. */
export const instanceLimit = 256 * 1024;

/** The bytes of the block device: a whole number of 512-byte sectors. Throws InstanceError. */
export function encodeInstance(instance: Instance): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(schema.parse(instance)));
  if (json.length > instanceLimit)
    throw new InstanceError("instance/size", `${json.length} bytes is too long`);
  const device = new Uint8Array(Math.ceil((headerSize + json.length) / 512) * 512);
  device.set(magic);
  new DataView(device.buffer).setUint32(magic.length, json.length, true);
  device.set(json, headerSize);
  return device;
}

/** Reads a document from the start of the device; at least `headerSize` bytes. Throws InstanceError. */
export function decodeInstance(device: Uint8Array): Instance {
  if (device.length < headerSize || magic.some((byte, i) => device[i] !== byte)) {
    throw new InstanceError("instance/magic", "the instance device does not begin with CAISSON1");
  }
  const length = new DataView(device.buffer, device.byteOffset, device.byteLength).getUint32(
    magic.length,
    true,
  );
  if (length > instanceLimit || headerSize + length > device.length) {
    throw new InstanceError("instance/size", `the instance document says it is ${length} bytes long`);
  }
  let json: unknown;
  try {
    json = JSON.parse(
      new TextDecoder("utf-8", { fatal: true }).decode(device.subarray(headerSize, headerSize + length)),
    );
  } catch (error) {
    throw new InstanceError("instance/content", `the instance document is not JSON: ${messageOf(error)}`);
  }
  const result = schema.safeParse(json);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new InstanceError(
      "instance/content",
      `the instance document: ${issue?.path.join(".")}: ${issue?.message}`,
    );
  }
  return result.data;
}
