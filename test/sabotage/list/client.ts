// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

const fetching = "collateral/collateral.test.ts";

export const client = within("packages/client/src", [
  [
    "what does not verify is kept",
    "collateral/intel.ts",
    "await verifyCollateral(collateral, now, trust);",
    "",
    fetching,
  ],
  [
    "an older set takes a newer one's place",
    "collateral/kept.ts",
    "if (usable && isOlder(part, kept))",
    "if (false)",
    fetching,
  ],
  [
    "an answer has no bound",
    "collateral/ask.ts",
    "const MAX_BODY = 1 << 20;",
    "const MAX_BODY = 1 << 30;",
    fetching,
  ],
  [
    "a server that is busy for no time is asked for ever",
    "collateral/ask.ts",
    "const wait = Math.max(asked, LEAST_WAIT_MS);",
    "const wait = asked;",
    fetching,
  ],
  [
    "a redirect is followed",
    "collateral/ask.ts",
    'redirect: "error", signal: AbortSignal',
    'redirect: "follow" as "error", signal: AbortSignal',
    fetching,
  ],
  [
    "a guest that is refused is spoken to",
    "attestation.ts",
    "  if (way === undefined || keys === undefined) throw refused(judged, ways);",
    "  if (keys === undefined) throw refused(judged, ways);",
    "node/fetch.test.ts",
  ],
  [
    "TLS counts that ends somewhere else",
    "attestation.ts",
    '  if (seen && report.verdict === "accepted") return "tls";',
    '  if (seen) return "tls";',
    "node/fetch.test.ts",
  ],
  [
    "TLS 1.2 is spoken",
    "node/connection.ts",
    '  if (socket.getProtocol() !== "TLSv1.3" || certificate === undefined) {',
    "  if (certificate === undefined) {",
    "node/fetch.test.ts",
  ],
  [
    "TLS 1.2 is offered",
    "node/connection.ts",
    '      minVersion: "TLSv1.3",',
    '      minVersion: "TLSv1.2",',
    "node/fetch.test.ts",
  ],
  [
    "another key than the attested one is taken at the next connection",
    "node/connection.ts",
    '      const isKnown = this.#bind === "key" && known?.way === "tls" && equal(known.keys.tlsKey, key);',
    '      const isKnown = this.#bind === "key" && known?.way === "tls";',
    "node/fetch.test.ts",
  ],
]);
