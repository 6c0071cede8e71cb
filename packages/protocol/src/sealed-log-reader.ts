// SPDX-License-Identifier: Apache-2.0
/** The owner's side of `sealed-log.ts`. */
import * as z from "zod/mini";
import { decryptAge } from "./age.ts";
import { hex } from "./hex.ts";
import type { SealingKey } from "./hpke.ts";
import type { LogPart } from "./sealed-log.ts";

const partSchema: z.ZodMiniType<LogPart> = z.strictObject({
  run: hex(16),
  number: z.int().check(z.gte(0)),
  last: z.boolean(),
  lines: z.array(z.tuple([z.number(), z.string(), z.string()])),
});

/** Opens a part (base64); undefined when it is not for this key. Throws for what is not one, or was altered. */
export function openLogPart(own: SealingKey, data: string): LogPart | undefined {
  const plain = decryptAge(own, Buffer.from(data, "base64"));
  return plain && partSchema.parse(JSON.parse(Buffer.from(plain).toString("utf8")));
}
