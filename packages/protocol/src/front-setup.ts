// SPDX-License-Identifier: Apache-2.0
/**
 * Between PID 1 and the front, which is a process of its own: what it is told at its start, what it asks, and what it says.
 * Of a certificate it says more: certificate-report.ts. Pure.
 */
import * as z from "zod/mini";

/** Made where it is read, so that PID 1, which only writes, does not carry it. */
function schema() {
  const base64 = z.string().check(z.regex(/^[A-Za-z0-9+/]+={0,2}$/), z.maxLength(1024));
  return z.strictObject({
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
}
export type FrontSetup = z.infer<ReturnType<typeof schema>>;

/** The one document that PID 1 writes to the front's pipe, which the front reads to its end and keeps nowhere else. */
export const writeFrontSetup = (setup: FrontSetup): Uint8Array =>
  new TextEncoder().encode(JSON.stringify(setup));

/** Reads what PID 1 wrote. Throws SyntaxError or ZodError for anything else. */
export const readFrontSetup = (text: string): FrontSetup => schema().parse(JSON.parse(text));

/** Where the front finds PID 1, in its own root. */
export const channelSocketPath = "/run/channel.sock";
/** The one request that PID 1 takes there: POST, JSON. */
export const channelPath = "/channel";
/** What is asked there: a quote over this root of clients' nonces, 32 bytes in hex. */
export interface ChannelQuestion {
  nonceRoot: string;
}

/** What the front says when it serves, a line of its own. */
export const frontListens = "the front listens";
