// SPDX-License-Identifier: Apache-2.0
/**
 * What the 64 bytes of report data in a quote mean: a scheme, and the fields that it binds.
 *
 * Report data is SHA-512 over the scheme's name and its fields in a fixed order, framed (`@caisson/vocabulary/frame`),
 * so that no two lists of fields have the same encoding. One implementation for all: the guest
 * that asks for a quote, the KMS and the verifier that recompute it.
 */

import { frame } from "@caisson/vocabulary/frame";
import { digest } from "#crypto";

/** Fields of each scheme, in the order in which they are hashed. */
export const reportDataSchemes = {
  /** Key release: the KMS's nonce, the KMS's identity key (32 bytes), the guest's ephemeral X25519 key (32 bytes). */
  "caisson/key-release/v1": ["nonce", "kmsIdentityKey", "ephemeralKey"],
  /** An application asks for evidence of itself: the challenger's nonce. */
  "caisson/app/v1": ["nonce"],
  /**
   * The ends of a channel: the RFC 6962 root over clients' nonces, SHA-256 of the TLS key's SubjectPublicKeyInfo, and the
   * HPKE key configuration (41 bytes, RFC 9458 section 3.1). Only PID 1 asks for it, over keys that it made itself.
   */
  "caisson/channel/v1": ["nonceRoot", "tlsKey", "hpkeConfig"],
} as const;

export type ReportDataScheme = keyof typeof reportDataSchemes;
export type ReportDataFields<S extends ReportDataScheme = ReportDataScheme> = Record<
  (typeof reportDataSchemes)[S][number],
  Uint8Array
>;

/** The 64 bytes of report data that bind `fields` under `scheme`. Fields beyond the scheme's own are a RangeError. */
export async function reportData<S extends ReportDataScheme>(
  scheme: S,
  fields: ReportDataFields<S>,
): Promise<Uint8Array> {
  const names: readonly string[] = reportDataSchemes[scheme];
  const given = fields as Record<string, Uint8Array>;
  if (Object.keys(given).length !== names.length || !names.every((name) => Object.hasOwn(given, name))) {
    throw new RangeError(`report data of ${scheme} binds exactly ${names.join(", ")}`);
  }
  return digest("sha512", frame(scheme, ...names.map((name) => given[name]!)));
}
