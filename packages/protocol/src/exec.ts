// SPDX-License-Identifier: Apache-2.0
/**
 * One connection to a development machine: one program beside a service's own (`caisson exec`), or what the guest sees
 * of itself (`caisson audit --live SPEC`), as output.
 *
 * The client sends a request: its length (u32, big endian) and JSON. After that both sides send frames: kind (u8), length
 * (u32, big endian), bytes. Standard input that has ended is a frame of no bytes. The guest's last frame is `status`, or
 * `refused` with the reason.
 */
import * as z from "zod/mini";
import { hex } from "./hex.ts";

/** Where PID 1 of a development image listens. */
export const execPort = 65_533;

export const frameKinds = { input: 0, output: 1, errors: 2, status: 3, refused: 4 } as const;
export type FrameKind = keyof typeof frameKinds;

/** Of the instance document: only who started the machine has it. */
const token = hex(32);
const programSchema = z.strictObject({
  token,
  service: z.optional(z.string().check(z.maxLength(63))),
  arguments: z.array(z.string().check(z.maxLength(32_768))).check(z.minLength(1), z.maxLength(256)),
});
const reportSchema = z.strictObject({ token, report: z.literal("live") });
const requestSchema = z.union([programSchema, reportSchema]);
export type ExecRequest = z.infer<typeof requestSchema>;

const requestLimit = 256 << 10;
const frameLimit = 64 << 10;

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

export function encodeRequest(request: ExecRequest): Buffer {
  const json = Buffer.from(JSON.stringify(request));
  return Buffer.concat([u32(json.length), json]);
}

/** Frames for bytes of any length, each within the limit; one of no bytes for none. */
export function encodeFrames(kind: FrameKind, bytes: Uint8Array): Buffer {
  const parts: Buffer[] = [];
  let rest = bytes;
  do {
    const part = rest.subarray(0, frameLimit);
    parts.push(Buffer.of(frameKinds[kind]), u32(part.length), Buffer.from(part));
    rest = rest.subarray(part.length);
  } while (rest.length > 0);
  return Buffer.concat(parts);
}

const kindOf = (number: number): FrameKind | undefined =>
  (Object.keys(frameKinds) as FrameKind[]).find((name) => frameKinds[name] === number);

/** Takes a connection's bytes apart, however they arrive. Each throws RangeError for what is not the format. */
export class ExecReader {
  #rest: Buffer = Buffer.alloc(0);

  push(bytes: Uint8Array): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
  }

  /** The request, once it is whole. */
  request(): ExecRequest | undefined {
    const body = this.#take(0, requestLimit);
    if (body === undefined) return undefined;
    try {
      return requestSchema.parse(JSON.parse(body.toString("utf8")));
    } catch {
      throw new RangeError("not a request");
    }
  }

  /** The next whole frame. */
  frame(): { kind: FrameKind; bytes: Buffer } | undefined {
    if (this.#rest.length === 0) return undefined;
    const kind = kindOf(this.#rest[0]!);
    if (kind === undefined) throw new RangeError(`there is no frame of kind ${this.#rest[0]}`);
    const bytes = this.#take(1, frameLimit);
    return bytes && { kind, bytes };
  }

  /** A length at `offset` and as many bytes. */
  #take(offset: number, limit: number): Buffer | undefined {
    if (this.#rest.length < offset + 4) return undefined;
    const length = this.#rest.readUInt32BE(offset);
    if (length > limit) throw new RangeError(`${length} bytes is more than ${limit}`);
    const end = offset + 4 + length;
    if (this.#rest.length < end) return undefined;
    const bytes = this.#rest.subarray(offset + 4, end);
    this.#rest = this.#rest.subarray(end);
    return bytes;
  }
}
