// SPDX-License-Identifier: Apache-2.0
/** Fields of HTTP/1.1 that are about one connection, and which therefore nobody passes on (RFC 9110, 7.6.1). */
export const hopByHopFields: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "expect",
]);

/**
 * Trailer fields that may be passed on, by name; `raw` as Node has them. None of them says where a message ends (RFC
 * 9110, 6.5.1).
 */
export function trailersOf(raw: readonly string[]): Record<string, string[]> {
  const found: Record<string, string[]> = Object.create(null);
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    if (!hopByHopFields.has(name) && !neverTrailing.has(name)) (found[name] ??= []).push(raw[i + 1]!);
  }
  return found;
}
const neverTrailing: ReadonlySet<string> = new Set([
  "authorization",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "host",
  "set-cookie",
]);
