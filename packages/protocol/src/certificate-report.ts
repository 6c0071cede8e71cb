// SPDX-License-Identifier: Apache-2.0
/**
 * What becomes of a front's public certificate: what the front tells PID 1 in a line, and what the console shows of it.
 * Pure.
 */
import * as z from "zod/mini";

const text = z.string().check(z.maxLength(1024));
const time = z.iso.datetime();

const schema = z.discriminatedUnion("state", [
  z.strictObject({
    state: z.literal("issued"),
    /** The domain by which CAA records name the authority, and the account's address (RFC 8657). */
    authority: text,
    account: text,
    notAfter: time,
    /** When the next one is asked for. */
    renewal: time,
  }),
  z.strictObject({
    state: z.literal("failed"),
    /** `acme/…`. */
    reason: z.string().check(z.regex(/^acme\/[a-z-]{1,40}$/)),
    message: text,
    /** Seconds until it is tried again; missing: never. */
    again: z.optional(z.int().check(z.minimum(0))),
  }),
]);
export type CertificateReport = z.infer<typeof schema>;

const prefix = "certificate ";

/** One line, without its newline. */
export const encodeReport = (report: CertificateReport): string => `${prefix}${JSON.stringify(report)}`;

/** The report of a line, or undefined when the line is something else. */
export function decodeReport(line: string): CertificateReport | undefined {
  if (!line.startsWith(prefix)) return undefined;
  try {
    return schema.safeParse(JSON.parse(line.slice(prefix.length))).data;
  } catch {
    return undefined;
  }
}

/**
 * The CAA records (RFC 8659, RFC 8657) after which this account, and this challenge, alone get certificates for a name.
 * `authority` is the domain by which the authority goes there.
 */
export const caaRecords = (names: readonly string[], authority: string, account: string): string[] =>
  names.flatMap((name) => [
    `${name}. CAA 0 issue "${authority};validationmethods=tls-alpn-01;accounturi=${account}"`,
    `${name}. CAA 0 issuewild ";"`,
  ]);
