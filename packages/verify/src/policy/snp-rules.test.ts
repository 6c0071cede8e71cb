// SPDX-License-Identifier: Apache-2.0
/** Policies for SEV-SNP guests: every rule with a side that holds and one that does not. */
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { test } from "node:test";
import { type AmdHierarchy, tcbBytes } from "@caisson/simulated/amd-pki";
import type { ErrorCode } from "../errors.ts";
import type { AnyEvidence } from "../evidence/evidence.ts";
import { buildSnp } from "../testing/snp-refusals.ts";
import { verifyEvidence } from "../verify.ts";
import { readPolicy } from "./policy.ts";
import { explainPolicy } from "./policy-explain.ts";
import { policyFrom } from "./policy-from.ts";
import { readPolicyText } from "./policy-text.ts";
import { readReferences } from "./reference.ts";

type Rules = Record<string, unknown>;
const good: Rules = {
  measurements: ["ab".repeat(48)],
  products: ["Milan"],
  minimumTcb: { Milan: { bootLoader: 4, snp: 24, microcode: 219 } },
  chipIds: "any",
};
const version = "caisson/policy/v1";

async function codes(
  rules: Rules,
  before?: (h: AmdHierarchy) => void,
  more: { built?: Parameters<typeof buildSnp>[0]; references?: object; policy?: object } = {},
): Promise<string[]> {
  const { report, collateral, roots, now } = buildSnp({ ...more.built, ...(before && { before }) });
  const evidence: AnyEvidence = { platform: "snp", report, collateral };
  // A rule that a case sets to undefined is left out.
  const snp = JSON.parse(JSON.stringify(rules)) as Rules;
  const policy = readPolicy(more.policy ?? { version, snp, freshness: "any" });
  const references = more.references === undefined ? [] : readReferences(more.references, "file");
  return (await verifyEvidence(evidence, { policy, references, now, amdRoots: roots })).codes;
}

test("the good policy accepts the good guest", async () => deepEqual(await codes(good), []));

test("the empty policy accepts nothing, and says what must be stated", async () => {
  deepEqual(await codes({}), [
    "snp/measurement-not-stated",
    "snp/processor",
    "snp/tcb-minimum-not-stated",
    "snp/chip-not-stated",
  ]);
});

const low = { bootLoader: 4, snp: 23, microcode: 219 };
const cases: [name: string, rules: Rules, code: ErrorCode | undefined, before?: (h: AmdHierarchy) => void][] =
  [
    ["a debug guest", good, "snp/debug", (h) => (h.report.policy |= 1n << 19n)],
    ["a migration agent", good, "snp/policy-permits", (h) => (h.report.policy |= 1n << 18n)],
    [
      "a migration agent that is permitted",
      { ...good, permits: ["smt", "migration-agent"] },
      undefined,
      (h) => (h.report.policy = (0x70000n & ~(1n << 16n)) | (1n << 16n)),
    ],
    [
      "SMT where none is permitted",
      { ...good, permits: [] },
      "snp/policy-permits",
      (h) => (h.report.policy = 0x30000n),
    ],
    [
      "ciphertext hiding that the guest does not demand",
      { ...good, demands: ["ciphertext-hiding"] },
      "snp/policy-demands",
    ],
    [
      "ciphertext hiding that it does",
      { ...good, demands: ["ciphertext-hiding"] },
      undefined,
      (h) => (h.report.policy |= 1n << 24n),
    ],
    ["another privilege level", good, "snp/privilege-level", (h) => (h.report.vmpl = 1)],
    ["a listed privilege level", { ...good, privilegeLevels: [1, 2] }, undefined, (h) => (h.report.vmpl = 1)],
    ["a report that its host asked for", good, "snp/privilege-level", (h) => (h.report.vmpl = 0xffffffff)],
    ["another measurement", { ...good, measurements: ["cd".repeat(48)] }, "snp/measurement"],
    ["any measurement", { ...good, measurements: "any" }, undefined],
    ["host data", good, "snp/host-data", (h) => (h.report.hostData = "01".repeat(32))],
    [
      "listed host data",
      { ...good, hostData: ["01".repeat(32)] },
      undefined,
      (h) => (h.report.hostData = "01".repeat(32)),
    ],
    ["another ID key", { ...good, idKeys: ["11".repeat(48)] }, "snp/id-key"],
    [
      "an ID key instead of a measurement",
      { ...good, measurements: undefined, idKeys: ["11".repeat(48)] },
      undefined,
      (h) => (h.report.idKeyDigest = "11".repeat(48)),
    ],
    ["another author key", { ...good, authorKeys: ["11".repeat(48)] }, "snp/author-key"],
    ["another family", { ...good, idKeys: ["00".repeat(48)], familyIds: ["11".repeat(16)] }, "snp/family-id"],
    ["another image", { ...good, idKeys: ["00".repeat(48)], imageIds: ["11".repeat(16)] }, "snp/image-id"],
    ["an old guest", { ...good, idKeys: ["00".repeat(48)], minimumGuestSvn: 1 }, "snp/guest-svn"],
    [
      "a guest that is new enough",
      { ...good, idKeys: ["00".repeat(48)], minimumGuestSvn: 1 },
      undefined,
      (h) => (h.report.guestSvn = 2),
    ],
    ["Milan unasked", { ...good, products: undefined }, "snp/processor"],
    [
      "a minimum for another product",
      { ...good, minimumTcb: { Genoa: { snp: 1 } } },
      "snp/tcb-minimum-not-stated",
    ],
    ["a minimum above", { ...good, minimumTcb: { Milan: { microcode: 220 } } }, "snp/tcb-minimum"],
    ["the listed minimum", { ...good, minimumTcb: "listed" }, undefined],
    ["any minimum", { ...good, minimumTcb: "any" }, undefined],
    [
      "an old committed TCB",
      good,
      "snp/tcb-minimum",
      (h) => (h.report.committedTcb = tcbBytes(low, "Milan")),
    ],
    ["an old launch TCB", good, "snp/tcb-minimum", (h) => (h.report.launchTcb = tcbBytes(low, "Milan"))],
    ["an old current TCB alone", good, undefined, (h) => (h.report.currentTcb = tcbBytes(low, "Milan"))],
    [
      "no check for aliases",
      { ...good, platformInfo: ["alias-check"] },
      "snp/platform-info",
      (h) => (h.report.platformInfo = 1n),
    ],
    ["a check for aliases", { ...good, platformInfo: ["alias-check", "ecc"] }, undefined],
    ["another chip", { ...good, chipIds: ["11".repeat(64)] }, "snp/chip"],
    ["a provider that is none", { ...good, providers: ["CN=somebody"] }, "snp/provider"],
  ];
for (const [name, rules, code, before] of cases) {
  test(`${name}: ${code ?? "accepted"}`, async () => {
    deepEqual(await codes(rules, before), code === undefined ? [] : [code]);
  });
}

test("what is certain wins: what a policy refuses, it refuses without a list of revocations and without certificates, too", async () => {
  const without = (...parts: string[]) => ({
    built: {
      collateral: (own: object) =>
        Object.fromEntries(Object.entries(own).filter(([name]) => !parts.includes(name))),
    },
  });
  for (const [name, rules, code, before] of cases) {
    // Whose key signs, the certificate alone says.
    const certain = code === undefined || code === "snp/provider" ? [] : [code];
    deepEqual(await codes(rules, before, without("crl")), ["crl/missing", ...certain], name);
    const alone = await codes(rules, before, without("crl", "chain", "endorsement"));
    deepEqual(alone, ["collateral/missing", ...certain], name);
  }
});

test("a VLEK's provider, and Turin's chip by eight bytes", async () => {
  const vlek = { built: { kind: "vlek" } } as const;
  deepEqual(await codes({ ...good, providers: ["CN=cc-test.example"] }, undefined, vlek), []);
  const turin = buildSnp({ product: "Turin" });
  const rules = {
    ...good,
    products: ["Turin"],
    minimumTcb: "any",
    chipIds: [turin.h.report.chipId.slice(0, 16)],
  };
  deepEqual(await codes(rules, undefined, { built: { product: "Turin" } }), []);
  deepEqual(
    await codes({ ...rules, chipIds: ["11".repeat(8)] }, undefined, { built: { product: "Turin" } }),
    ["snp/chip"],
  );
});

test("Genoa and Turin have no listed minimum, which is a refusal and not a pass", async () => {
  for (const product of ["Genoa", "Turin"] as const) {
    const rules = { ...good, products: undefined, minimumTcb: "listed" };
    deepEqual(await codes(rules, undefined, { built: { product } }), ["snp/tcb-minimum-not-stated"]);
  }
});

test("a refusal for the TCB says what has to be done", async () => {
  const { report, collateral, roots, now } = buildSnp({
    before: (h) => {
      h.report.currentTcb = tcbBytes({ ...low, bootLoader: 3, snp: 24 }, "Milan");
      h.report.committedTcb = tcbBytes(low, "Milan");
    },
  });
  const policy = readPolicy({ version, snp: good, freshness: "any" });
  const judged = await verifyEvidence(
    { platform: "snp", report, collateral },
    { policy, now, amdRoots: roots },
  );
  const { reason } = judged.checks.find(({ id }) => id === "snp/tcb-minimum")!;
  match(reason!, /boot loader is 3, needs 4: update the BIOS/);
  match(reason!, /committed TCB is not \(SNP 23\): the host must commit it/);
});

test("a launch digest of caisson measure counts as a reference", async () => {
  const without = { ...good, measurements: undefined };
  deepEqual(await codes(without, undefined, { references: { launchDigest: "ab".repeat(48) } }), []);
  deepEqual(await codes(without, undefined, { references: { launchDigest: "cd".repeat(48) } }), [
    "snp/measurement",
  ]);
});

test("a policy for TDs and a SEV-SNP report, and the other way round", async () => {
  deepEqual(await codes({}, undefined, { policy: { version } }), ["policy/tee"]);
});

test("rules that do not belong together are refused with the field", () => {
  for (const [field, policy] of [
    ["tcb", { snp: {}, tcb: {} }],
    ["sgx", { snp: {}, sgx: {} }],
    ["app", { snp: {}, app: {} }],
    ["platforms", { snp: {}, platforms: ["tdx"] }],
    ["pcrs", { sgx: {}, pcrs: "any" }],
    ["snp.permits[0]", { snp: { permits: ["debug"] } }],
    ["snp.chipIds", { snp: { chipIds: ["00"] } }],
    ["snp.minimumTcb", { snp: { minimumTcb: { Milan: { snp: 256 } } } }],
  ] as const) {
    throws(
      () => readPolicy({ version, ...policy }),
      (error: Error & { facts?: unknown }) => {
        equal((error as { code?: string }).code, "policy/malformed");
        return JSON.stringify(error.facts).includes(field);
      },
      field,
    );
  }
});

test("a policy from a report accepts that report, and explains itself", async () => {
  for (const product of ["Milan", "Turin"] as const) {
    const { report, collateral, roots, now } = buildSnp({
      product,
      before: (h) => (h.report.hostData = "07".repeat(32)),
    });
    const evidence: AnyEvidence = { platform: "snp", report, collateral };
    const text = policyFrom(evidence, undefined);
    const policy = readPolicyText(`${text}freshness: any\n`, "policy");
    deepEqual((await verifyEvidence(evidence, { policy, now, amdRoots: roots })).codes, []);
    equal(explainPolicy(policy).find(({ name }) => name === "snp.chipIds")?.state, "stated");
    const other = buildSnp({ product, before: (h) => (h.report.measurement = "01".repeat(48)) });
    const judged = await verifyEvidence(
      { platform: "snp", report: other.report, collateral: other.collateral },
      { policy, now, amdRoots: roots },
    );
    deepEqual(judged.codes, ["snp/measurement", "snp/host-data"]);
  }
});
