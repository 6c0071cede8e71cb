// SPDX-License-Identifier: Apache-2.0
/**
 * Which header fields pass between a client and the application, and what the front says of itself. Pure.
 *
 * Invariants: nothing about the connection passes (RFC 9110, section 7.6.1); what begins with our names, or says where
 * a request comes from, is the front's alone: from a client it is dropped, however it is written (to CGI, `_` and other
 * signs are `-`).
 */

import { hopByHopFields } from "@caisson/protocol/hop-by-hop";

/** Fields as Node has them: name, value, name, value. */
export type RawHeaders = readonly string[];

const reserved = /^(?:caisson|ehbp|x-forwarded|x-real-ip$|forwarded$|via$)/;

/** What the front says itself of a body that it passes on. */
export const contentLength: ReadonlySet<string> = new Set(["content-length"]);

/** How a request came to the application. */
export type Way = "tls" | "ehbp" | "tunnel";

/** Names that `Connection` lists: a client could name any field there, to have it dropped behind a check. */
const named = (raw: RawHeaders): Set<string> => {
  const list = new Set<string>();
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.toLowerCase() !== "connection") continue;
    for (const name of raw[i + 1]!.split(",")) list.add(name.trim().toLowerCase());
  }
  return list;
};

/** Fields that a client's `Connection` may not take away. */
const kept = new Set(["host", "authorization", "cookie", "content-length", "content-type", "origin"]);

/** What was found of names before; bounded, since clients make names. */
const judged = new Map<string, boolean>();
const mostJudged = 512;

/** Whether a field of this name (lower case) is the connection's, or ours. */
function isWithheld(name: string): boolean {
  const known = judged.get(name);
  if (known !== undefined) return known;
  const plain = name.replace(/[^a-z0-9]/g, "-");
  const withheld = hopByHopFields.has(plain) || reserved.test(plain);
  if (judged.size < mostJudged) judged.set(name, withheld);
  return withheld;
}

const passes = (name: string, listed: ReadonlySet<string>): boolean =>
  !isWithheld(name) && (!listed.has(name) || kept.has(name));

/** What the application gets of a request's fields; `skip` are left out besides. */
export function towardsApplication(
  raw: RawHeaders,
  { way, address, host, skip }: { way: Way; address: string; host: string; skip?: ReadonlySet<string> },
): string[] {
  const listed = named(raw);
  const fields: string[] = ["Host", host];
  // HTTP/2 may cut one field of cookies into many (RFC 9113, section 8.2.3).
  const cookies: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    // Pseudo-header fields of HTTP/2 are not fields; Host is said once.
    if (name.startsWith(":") || name === "host" || skip?.has(name) === true) continue;
    if (name === "cookie") cookies.push(raw[i + 1]!);
    else if (passes(name, listed)) fields.push(raw[i]!, raw[i + 1]!);
  }
  if (cookies.length > 0) fields.push("Cookie", cookies.join("; "));
  fields.push(
    "X-Forwarded-For",
    address,
    "X-Forwarded-Proto",
    "https",
    "X-Forwarded-Host",
    host,
    "Caisson-Channel",
    way,
  );
  return fields;
}

/** What a client gets of an answer's fields. */
export function towardsClient(raw: RawHeaders, skip?: ReadonlySet<string>): string[] {
  const listed = named(raw);
  const fields: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    if (passes(name, listed) && skip?.has(name) !== true) fields.push(raw[i]!, raw[i + 1]!);
  }
  return fields;
}
