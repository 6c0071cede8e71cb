// SPDX-License-Identifier: Apache-2.0
/**
 * The same evidence to this verifier and to @phala/dcap-qvl-web (Rust compiled to WASM, rustls-webpki for chains and
 * CRLs): generated platforms with random levels and changes, and the whole table of wrong evidence.
 *
 * Never may ours accept what the oracle refuses. What ours refuses and the oracle accepts must be in the list below,
 * with the rule that demands the refusal; statuses must be equal. The oracle reads quotes of versions 3 and 4 only.
 */
import { deepEqual, ok } from "node:assert/strict";
import { before, test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import type { Collateral, ErrorCode } from "@caisson/verify";
import { buildEvidence, now, times } from "@caisson/verify/testing/evidence";
import { refusals } from "@caisson/verify/testing/refusals";
import fc from "fast-check";
import { loadOracle, ours, theirs, type Verdict } from "../support/quote-oracle.ts";

before(loadOracle);

/** Rules that the oracle does not enforce (in its version 0.3.3), and the refusals of ours that follow from each. */
const stricter: [rule: string, codes: ErrorCode[]][] = [
  [
    "RFC 5280, 6.1: the root is a certificate too (the oracle takes only its name and key)",
    ["chain/expired", "chain/not-yet-valid", "chain/signature"],
  ],
  ["SGX PCK profile, 1.3: names", ["chain/name"]],
  ["RFC 5280, 4.2.1.1 and 6.1.3: issuer names and key identifiers", ["chain/issuer", "crl/issuer"]],
  [
    "RFC 5280, 4.2: extensions once, the profile's present, unknown critical ones refused",
    ["chain/extension", "crl/extension"],
  ],
  [
    "RFC 5280, 4.2.1.3 and 4.2.1.9; SGX PCK profile, 1.3: key usage and constraints",
    ["chain/key-usage", "chain/constraints", "chain/key"],
  ],
  ["X.690: DER", ["der/malformed"]],
  ["RFC 5280, 4.1: version, serial number, algorithms", ["certificate/malformed"]],
  [
    "RFC 7468: nothing but certificates; SGX PCK profile: leaf, CA, root",
    ["pem/malformed", "chain/length", "chain/untrusted-root"],
  ],
  ["RFC 5280, 5.1.2.4: a list is not used before its date", ["crl/not-yet-valid"]],
  ["SGX PCK profile, 1.3.5: every field of the extension, once, in its size", ["pck/extension"]],
  ["4.1.2.4.10: the PCE id is compared", ["tcb-info/pceid"]],
  ["4.1.2.4.9 and .14: TCB info and QE identity of the quote's own TEE", ["tcb-info/tee", "qe/tee"]],
  [
    "PCS API v4: version, dates, types and levels of TCB info",
    ["tcb-info/not-yet-valid", "tcb-info/version", "tcb-info/malformed"],
  ],
  [
    "4.1.2.4.15: the QE identity is verified at all",
    [
      "qe-identity/signature",
      "qe-identity/expired",
      "qe-identity/not-yet-valid",
      "qe-identity/version",
      "qe-identity/malformed",
      "json/malformed",
      "collateral/malformed",
      "qe/miscselect",
      "qe/attributes",
      "qe/signer",
      "qe/product",
      "qe/svn",
    ],
  ],
  [
    "4.1.2.4.11 and .17.4.1: TDX module identities, MRSIGNERSEAM, SEAMATTRIBUTES",
    ["tdx-module/unknown", "tdx-module/signer", "tdx-module/attributes", "tcb/module-level"],
  ],
  [
    "4.1.2.4.17: no level or a revoked one is a refusal (the oracle reports Unknown or Revoked)",
    ["tcb/no-level", "tcb/revoked"],
  ],
  ["4.1.2.4.13: QE report data is the hash and zeros", ["qe/report-data"]],
  [
    "DCAP API, A.3: sizes are exact; behind a quote only zeros",
    ["quote/size", "quote/trailing-bytes", "quote/signature-data", "quote/certification-data"],
  ],
  ["DCAP API, A.3.2: quotes of version 5 have one of the body types that it lists", ["quote/unsupported"]],
];
/** The oracle asks the root's CRL for the quote's own chain alone; the chain that signed the PCK CRL counts here, too. */
const stricterCase =
  "the PCK CA certificate of the collateral is revoked, that of the quote's own chain is not";
const explained = new Set<string>(stricter.flatMap(([, codes]) => codes));

/** What is wrong when the two verdicts are put side by side; undefined when they agree or a rule explains it. */
function disagreement(mine: Verdict, other: Verdict): string | undefined {
  const both = `ours ${JSON.stringify(mine)}, the oracle ${JSON.stringify(other)}`;
  if (mine.code === undefined) {
    return JSON.stringify(mine) === JSON.stringify(other) ? undefined : both;
  }
  return other.status === undefined || explained.has(mine.code) ? undefined : both;
}

test("right evidence: both accept it", async () => {
  for (const format of ["td10-v4", "sgx-v3"] as const) {
    const { quote, collateral, now: at } = buildEvidence({ format });
    const expected = { status: "UpToDate", advisories: [] };
    deepEqual(await ours(quote, collateral, at), expected);
    deepEqual(theirs(quote, collateral, at), expected);
  }
});

test(`wrong evidence, ${refusals.length} cases: what the oracle accepts, a rule refuses`, async (t) => {
  const used = new Set<string>();
  for (const refusal of refusals) {
    const { quote, collateral, now: at } = buildEvidence({ ...refusal, format: refusal.format ?? "td10-v4" });
    const other = theirs(quote, collateral, at);
    if (other.status !== undefined) used.add(refusal.name === stricterCase ? stricterCase : refusal.code);
    ok(
      refusal.name === stricterCase || disagreement({ code: refusal.code }, other) === undefined,
      `${refusal.name}: the oracle says ${other.status}`,
    );
  }
  // The list holds nothing that is not needed.
  deepEqual(
    [...explained, stricterCase].filter((code) => !used.has(code)),
    [],
  );
  t.diagnostic(`the oracle accepts evidence of ${used.size} codes`);
});

const svn = fc.integer({ min: 0, max: 3 });
const status = fc.constantFrom(
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
);
const levels = fc.array(
  fc.record({
    offset: svn,
    tdx: svn,
    pce: fc.integer({ min: 11, max: 14 }),
    status,
    advisory: fc.nat(3),
  }),
  { minLength: 1, maxLength: 5 },
);

test("generated TCB levels: the same level, status and advisories", async () => {
  // The module's major version stays 0: from 1 on, Intel's rule for module identities applies, which the oracle lacks.
  // One component varies: the oracle compares SVNs as a list is sorted, where every one must be reached (4.1.2.4.17).
  const property = fc.asyncProperty(levels, fc.nat(15), svn, async (list, index, tee) => {
    const h = hierarchy("refusals", times);
    const base = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    // Best first, as Intel publishes them: ours ranks them as Intel's library does, the oracle takes what comes first.
    const rank = ({ offset, pce, tdx }: (typeof list)[number]) =>
      Math.max(0, base[index]! + offset - 1) * 1000 + pce * 10 + tdx;
    const bestFirst = list.toSorted((a, b) => rank(b) - rank(a));
    h.tcbInfo.tcbLevels = bestFirst.map((level) => ({
      tcb: {
        sgxtcbcomponents: base.map((value, i) => ({
          svn: Math.max(0, i === index ? value + level.offset - 1 : value),
        })),
        pcesvn: level.pce,
        tdxtcbcomponents: base.map((_, i) => ({ svn: i === 1 ? 0 : i === index ? level.tdx : 0 })),
      },
      tcbDate: "2026-01-01T00:00:00Z",
      tcbStatus: level.status,
      advisoryIDs: level.advisory === 0 ? [] : [`INTEL-SA-0000${level.advisory}`],
    }));
    const { collateral, pckChain } = mint(h);
    const teeTcbSvn = Buffer.from(base.map((_, i) => (i === index && i !== 1 ? tee : 0))).toString("hex");
    const quote = issueQuote(h, pckChain, { teeTcbSvn }, "td10-v4");
    const [mine, other] = [await ours(quote, collateral, now), theirs(quote, collateral, now)];
    if (mine.code === "tcb/no-level") deepEqual(other.status, "Unknown");
    else if (mine.code === "tcb/revoked") deepEqual(other.status, "Revoked");
    else deepEqual(disagreement(mine, other), undefined);
  });
  await fc.assert(property, { numRuns: 150 });
});

for (const format of ["td10-v4", "sgx-v3"] as const) {
  test(`changed bytes of a ${format} quote and its collateral: no unexplained verdict`, async () => {
    const right = buildEvidence({ format });
    const fields = Object.keys(right.collateral) as (keyof Collateral)[];
    const property = fc.asyncProperty(
      fc.constantFrom("quote" as const, ...fields),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.nat(255),
      async (where, place, value) => {
        const quote = Uint8Array.from(right.quote);
        const collateral = { ...right.collateral };
        if (where === "quote") quote[Math.floor(place * quote.length)] = value;
        else {
          const text = collateral[where]!;
          const at = Math.floor(place * text.length);
          // A digit or a printable character, so that the text stays one.
          const digit = /^[0-9a-f]*$/.test(text)
            ? (value % 16).toString(16)
            : String.fromCharCode(32 + (value % 95));
          collateral[where] = text.slice(0, at) + digit + text.slice(at + 1);
        }
        const verdicts = [await ours(quote, collateral, now), theirs(quote, collateral, now)] as const;
        deepEqual(disagreement(...verdicts), undefined);
      },
    );
    await fc.assert(property, { numRuns: 400 });
  });
}
