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
