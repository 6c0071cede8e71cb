// SPDX-License-Identifier: Apache-2.0
/**
 * Writes conformance cases: `node test/conformance/write.ts DIR` all of them, without DIR the few that are in the
 * repository. They are this project's named cases of wrong evidence, minted anew: keys, and so bytes, of the SEV-SNP
 * cases differ each time.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isQuote, readCollateral, readEvidence, VerifyError, verifyGenuine } from "@caisson/verify";
import { buildEvidence } from "@caisson/verify/testing/evidence";
import { expectedVerdict } from "@caisson/verify/testing/expected-verdict";
import { refusals } from "@caisson/verify/testing/refusals";
import { buildSnp, snpRefusals } from "@caisson/verify/testing/snp-refusals";
import { toBase64, toHex } from "@caisson/vocabulary/bytes";
import type { ConformanceCase } from "../../packages/cli/src/conformance.ts";

const pem = (der: Uint8Array) =>
  `-----BEGIN CERTIFICATE-----\n${toBase64(new Uint8Array(der))
    .match(/.{1,64}/g)!
    .join("\n")}\n-----END CERTIFICATE-----\n`;

/** Whether bytes by themselves are recognised as what they are: some wrong ones are not, which is another question. */
function isRead(bytes: Uint8Array, platform: "tdx" | "snp"): boolean {
  try {
    const evidence = readEvidence(bytes);
    const read =
      evidence.platform === "snp" ? evidence.report : isQuote(evidence) ? evidence.quote : evidence.document;
    return (
      evidence.platform === platform &&
      read.length === bytes.length &&
      read.every((byte, i) => byte === bytes[i])
    );
  } catch (error) {
    if (error instanceof VerifyError) return false;
    throw error;
  }
}

/**
 * Of quotes: what has to be refused, and one that has not. Collateral that cannot be read is left out: it has no JSON
 * form.
 */
async function quotes(): Promise<ConformanceCase[]> {
  const good: Partial<(typeof refusals)[number]> = { name: "a TDX quote in good order" };
  const cases: ConformanceCase[] = [];
  for (const one of [good, ...refusals]) {
    const { quote, collateral, now, trust } = buildEvidence(one);
    try {
      readCollateral(collateral);
    } catch (error) {
      if (error instanceof VerifyError) continue;
      throw error;
    }
    if (!isRead(quote, "tdx")) continue;
    const { codes } = await verifyGenuine({ platform: "tdx", quote, collateral }, { now, trust });
    const code: string[] = one.code === undefined ? [] : [one.code];
    // What a case must give is the case's own word; whether it gives that alone, only judging tells.
    if (codes.join() !== code.join()) continue;
    cases.push({
      version: "caisson/conformance/v1",
      name: `quote: ${one.name}`,
      at: now.toISOString(),
      roots: { intel: toHex(trust.rootKey) },
      evidence: toBase64(new Uint8Array(quote)),
      collateral,
      expect: { verdict: verdictOf(one), codes: code },
    });
  }
  return cases;
}

const verdictOf = ({ code, name }: { code?: string; name?: string }) =>
  code === undefined ? "accepted" : expectedVerdict(code, name!);

async function reports(): Promise<ConformanceCase[]> {
  const cases: ConformanceCase[] = [];
  const good: Partial<(typeof snpRefusals)[number]> = { name: "a SEV-SNP report in good order" };
  for (const one of [good, ...snpRefusals]) {
    const { report, collateral, roots, now } = buildSnp(one);
    if (roots.length === 0 || !isRead(report, "snp")) continue;
    const { endorsement, chain, crl } = collateral;
    const { codes } = await verifyGenuine({ platform: "snp", report, collateral }, { now, amdRoots: roots });
    const code: string[] = one.code === undefined ? [] : [one.code];
    if (codes.join() !== code.join()) continue;
    cases.push({
      version: "caisson/conformance/v1",
      name: `report: ${one.name}`,
      at: now.toISOString(),
      roots: { amd: roots.map(({ product, keySha256 }) => ({ product, keySha256 })) },
      evidence: toBase64(new Uint8Array(report)),
      collateral: {
        version: "caisson/amd-collateral/v1",
        ...(endorsement && { endorsement: pem(endorsement) }),
        ...(chain && { chain: chain.map(pem).join("") }),
        ...(crl && { crl: toHex(new Uint8Array(crl)) }),
      },
      expect: { verdict: verdictOf(one), codes: code },
    });
  }
  return cases;
}

/** The few that are in the repository: one of each thing that a verifier has to do. */
const chosen = [
  "quote: a TDX quote in good order",
  "report: a SEV-SNP report in good order",
  "report: a changed measurement",
  "report: another chip",
  "report: no list",
  "report: the intermediate revoked",
  "report: a lower reported level than certified",
  "report: ark with a salt of 32 bytes",
  "report: a VLEK's report with a VCEK",
];
const chosenCodes = [
  "quote/signature",
  "qe/report-data",
  "certificate/revoked",
  "tcb-info/expired",
  "tcb/revoked",
  "chain/untrusted-root",
];

const all = [...(await quotes()), ...(await reports())];
const [given] = process.argv.slice(2);
const place = given ?? new URL("cases/", import.meta.url).pathname;
const seen = new Set<string>();
const wanted =
  given !== undefined
    ? all
    : all.filter(({ name, expect }) => {
        if (chosen.includes(name)) return true;
        const code = expect.codes?.[0];
        if (
          !name.startsWith("quote: ") ||
          code === undefined ||
          !chosenCodes.includes(code) ||
          seen.has(code)
        )
          return false;
        seen.add(code);
        return true;
      });
mkdirSync(place, { recursive: true });
const names = new Set<string>();
for (const one of wanted) {
  const base = one.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 80);
  let name = base;
  for (let i = 2; names.has(name); i++) name = `${base}-${i}`;
  names.add(name);
  writeFileSync(join(place, `${name}.json`), `${JSON.stringify(one, null, 1)}\n`);
}
process.stdout.write(`${wanted.length} cases in ${place}\n`);
