// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

const fetching = "node/fetch.test.ts";

export const client = within("packages/client/src", [
  [
    "a guest that is refused is spoken to",
    "attestation.ts",
    "  if (way === undefined || keys === undefined) throw refused(judged, ways);",
    "  if (keys === undefined) throw refused(judged, ways);",
    fetching,
  ],
  [
    "TLS counts that ends somewhere else",
    "attestation.ts",
    '  if (seen && report.verdict === "accepted") return "tls";',
    '  if (seen) return "tls";',
    fetching,
  ],
  [
    "another key than the attested one is taken at the next connection",
    "node/connection.ts",
    '      if (known?.way !== "tls" || !equal(known.keys.tlsKey, key)) {',
    '      if (known?.way !== "tls") {',
    fetching,
  ],
]);
