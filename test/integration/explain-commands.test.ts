// SPDX-License-Identifier: Apache-2.0
/** `inspect`, `policy from` and `tcb` of what they cannot explain: the exit code says whose fault it is. */
import { deepEqual, match } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mintNitro, nitroHierarchy } from "@caisson/simulated/aws-pki";
import { buildEvidence, times } from "@caisson/verify/testing/evidence";
import { buildSnp } from "@caisson/verify/testing/snp-refusals";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";

const repository = new URL("../../", import.meta.url).pathname;
const folder = temporaryDirectory("explain");
const file = (name: string, content: Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const quote = buildEvidence({ format: "td10-v4" }).quote;
const truncated = file("truncated.bin", quote.subarray(0, -1));
const unknown = file(
  "unknown.bin",
  // Key type 3, P-384.
  quote.map((byte, i) => (i === 2 ? 3 : byte)),
);
const nitro = file("nitro.cbor", mintNitro(nitroHierarchy(times)).document);
const snp = file(
  "report.bin",
  buildSnp({
    before: (h) => {
      h.report.version = 2;
    },
  }).report,
);

const cases: [words: string[], evidence: string, status: number, said: RegExp][] = [
  [["inspect"], truncated, 30, /\[quote\/truncated\]/],
  [["policy", "from"], truncated, 30, /\[quote\/truncated\]/],
  [["tcb"], truncated, 30, /\[quote\/truncated\]/],
  [["inspect"], unknown, 20, /\[quote\/unsupported\]/],
  [["tcb"], nitro, 20, /AWS says nothing .*\[evidence\/unsupported\]/],
  [
    ["tcb"],
    snp,
    20,
    /nobody can tell which product .*\[snp\/product\]\n {2}found .* does not say\n {2}try .*certificate/,
  ],
];
for (const [words, evidence, expected, said] of cases) {
  test(`${words.join(" ")}: exit code ${expected}, ${said.source}`, () => {
    const command = [`${repository}packages/cli/src/main.ts`, ...words, evidence];
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: "utf8" });
    deepEqual([status, stdout], [expected, ""], stderr);
    match(stderr, said);
  });
}
