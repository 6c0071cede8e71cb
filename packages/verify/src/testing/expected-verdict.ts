// SPDX-License-Identifier: Apache-2.0
/** What each wrong evidence of the tables must be answered, said apart from the verifier: for its tests and for others'. */
import type { Report } from "../report.ts";

/**
 * The answer to every refusal of the two tables, by who is to blame: the first line that fits "code: name" counts. What
 * no line fits is wrong with the evidence itself.
 */
const blame: readonly [pattern: RegExp, verdict: Report["verdict"], why: string][] = [
  [
    /^certificate\/revoked: the TCB signer/,
    "undetermined",
    "Intel signs its documents with another key then",
  ],
  [/^certificate\/revoked: the PCK CA certificate of the collateral/, "undetermined", "not the quote's own"],
  [/^certificate\/revoked/, "rejected", "what vouches for the evidence is taken back"],
  [/^(quote\/unsupported|snp\/(version|algorithm|reserved|signing-key))/, "undetermined", "not judged here"],
  [/^chain\/(expired|not-yet-valid)/, "undetermined", "a day is not a forgery"],
  [/^tdx-module\/unknown/, "undetermined", "a list of Intel's that does not know it yet"],
  [/^(collateral|crl|tcb-info|qe-identity|json)\//, "undetermined", "collateral"],
  [/^qe\/tee/, "undetermined", "collateral of the other TEE"],
  [/: the (root|pckCa) certificate/, "rejected", "the quote carries it, too"],
  [/: the tcbSigner certificate/, "undetermined", "the collateral's certificate"],
  [/: the (rootCrl|pckCrl) /, "undetermined", "a list"],
  [/^der\/malformed: (the (root|PCK) CRL|a list)/, "undetermined", "a list that cannot be read"],
  [
    /^chain\/.*: the (PCK CRL|TCB info|QE identity)('s signer|\b).*(chain|hierarchy)/,
    "undetermined",
    "collateral",
  ],
  [
    /^snp\/(product|endorsement-kind|reported-tcb|chip-id):/,
    "undetermined",
    "a certificate of something else",
  ],
  [/^snp\/extension|^der\/malformed: a level/, "undetermined", "a certificate that is not as AMD's are"],
  [/^der\/malformed: a cut certificate/, "undetermined", "a certificate that cannot be read"],
  [/^certificate\/malformed: (endorsement|ark|ask)/, "undetermined", "a certificate that cannot be read"],
  [
    /^chain\/extension: (endorsement|ark|ask) with a critical/,
    "undetermined",
    "a certificate that cannot be read",
  ],
  [
    /^chain\/(key|length): (a chain|an endorsement|ark|ask)/,
    "undetermined",
    "a certificate that cannot be read",
  ],
];
/** What a case of this code and name must be answered. */
export const expectedVerdict = (code: string, name: string): Report["verdict"] =>
  blame.find(([pattern]) => pattern.test(`${code}: ${name}`))?.[1] ?? "rejected";
