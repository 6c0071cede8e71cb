// SPDX-License-Identifier: Apache-2.0
/** What PID 1 tells the front, over a pipe: one JSON document, read to its end and kept nowhere else. */
import * as z from "zod/mini";

const base64 = z.string().check(z.regex(/^[A-Za-z0-9+/]+={0,2}$/), z.maxLength(1024));

export const setupSchema = z.strictObject({
  /** PKCS 8 of the P-256 key; the 32 bytes of the X25519 key. */
  tlsKey: base64,
  hpkeKey: base64,
  application: z.strictObject({ host: z.string(), port: z.int() }),
  require: z.enum(["tls", "encrypted"]),
  /** Of the certificate; not empty. */
  names: z.array(z.string()).check(z.minLength(1)),
  acme: z.optional(
    z.strictObject({
      directory: z.string(),
      /** PKCS 8 of the account's P-256 key, which follows from the application's. */
      accountKey: base64,
      /** PEM of the only roots that vouch for the directory; missing: the public ones. */
      roots: z.optional(z.string()),
    }),
  ),
});

/** Where the front finds PID 1. */
export const attestSocket = "/run/channel.sock";
/** The one request that PID 1 takes there: POST, JSON. */
export const attestPath = "/channel";
