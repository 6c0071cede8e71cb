// SPDX-License-Identifier: Apache-2.0
/**
 * No rule that an author writes goes unasked: whichever rule is added to a policy that accepts some evidence, with a
 * value that nothing can meet, the policy is refused, or the evidence is.
 */
import { equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import { mintNitro, nitroHierarchy } from "@caisson/simulated/aws-pki";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import { VerifyError } from "../errors.ts";
import { buildSnp } from "../testing/snp-refusals.ts";
import { type Judgement, verifyEvidence } from "../verify.ts";
import { readPolicy } from "./policy.ts";

const times = { issued: new Date("2026-06-01T10:00:00Z"), expires: new Date("2026-06-01T13:00:00Z") };
const now = new Date("2026-06-01T10:30:00Z");
const version = "caisson/policy/v1";
const register = "a1".repeat(48);
const none = (size: number) => ["f7".repeat(size)];

/** Values that no evidence of these tests meets, for every rule of a policy. */
const unmet: Readonly<Record<string, unknown>> = {
  platforms: ["emulated"],
  tcb: { minimumEvaluationNumber: 1_000_000 },
  platformIdentities: none(16),
  platformInstances: none(16),
  fmspcs: none(6),
  td: { mrConfigId: none(48) },
  registers: { rtmr3: none(48) },
  references: [{ mrtd: none(48)[0], rtmr0: none(48)[0], rtmr1: none(48)[0], rtmr2: none(48)[0] }],
  events: { bootLog: "required" },
  runtimeEvents: "none",
  sgx: { mrEnclave: none(32) },
  snp: { measurements: none(48), minimumTcb: "any", chipIds: "any" },
  nitro: { pcrs: { 0: none(48) } },
  pcrs: { 0: none(32) },
  app: { id: none(20) },
  volumes: { names: ["data"] },
  secureTime: { minimumOperators: 32 },
  keyProviders: [{ name: "kms", id: none(32)[0] }],
  freshness: "nonce",
};
/** Below the rules of each kind. */
const within: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  tcb: { statuses: ["OutOfDate"], minimumEvaluationNumber: 1_000_000 },
  td: {
    attributes: none(8),
    xfam: none(8),
    mrSeam: none(48),
    mrSignerSeam: none(48),
    minimumTeeTcbSvn: none(16)[0],
    mrServiceTd: none(48),
    mrConfigId: none(48),
    mrOwner: none(48),
    mrOwnerConfig: none(48),
  },
  sgx: { mrEnclave: none(32), mrSigner: none(32), isvProdId: 65535, minimumIsvSvn: 65535 },
  snp: {
    measurements: none(48),
    hostData: none(32),
    privilegeLevels: [3],
    permits: [],
    demands: ["single-socket"],
    platformInfo: ["sev-tio"],
    idKeys: none(48),
    authorKeys: none(48),
    familyIds: none(16),
    imageIds: none(16),
    minimumGuestSvn: 0xffffffff,
    products: ["Turin"],
    minimumTcb: { Milan: { snp: 255 } },
    chipIds: none(64),
    providers: ["nobody"],
  },
  nitro: {
    kinds: ["enclave"],
    pcrs: { 30: none(48) },
    modules: ["i-none"],
    publicKeys: none(32),
    userData: none(32),
  },
};

interface Kind {
  evidence: Parameters<typeof verifyEvidence>[0];
  judgement: Partial<Judgement>;
  policy: Readonly<Record<string, unknown>>;
}

function quoteKind(tee: "tdx" | "sgx", policy: object): Kind {
  const described = hierarchy("no rule ignored", times, tee);
  const { collateral, trust, pckChain } = mint(described);
  const td = { mrTd: register, rtmr0: register, rtmr1: register, rtmr2: register, rtmr3: "00".repeat(48) };
  const quote = issueQuote(described, pckChain, td, tee === "sgx" ? "sgx-v3" : "td15-v5");
  const open = { tcb: { minimumEvaluationNumber: "any" }, platformIdentities: "any", freshness: "any" };
  return {
    evidence: { platform: "tdx", quote },
    judgement: { trust, collateral },
    policy: { ...open, ...policy },
  };
}

const enclave = quoteKind("sgx", { sgx: { mrEnclave: none(32) } });
const snp = buildSnp({});
const nitro = mintNitro(nitroHierarchy(times, "tpm"));
const kinds: Readonly<Record<string, Kind>> = {
  "a TD": quoteKind("tdx", {
    runtimeEvents: "none",
    references: [{ mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register }],
  }),
  "a SEV-SNP guest": {
    evidence: { platform: "snp", report: snp.report, collateral: snp.collateral },
    judgement: { amdRoots: snp.roots, now: snp.now },
    policy: {
      freshness: "any",
      snp: { measurements: ["ab".repeat(48)], products: ["Milan"], minimumTcb: "any", chipIds: "any" },
    },
  },
  "a Nitro document": {
    evidence: { platform: "nitro", document: nitro.document },
    judgement: { nitroRoot: nitro.root },
    policy: { freshness: "any", nitro: { pcrs: "any" } },
  },
};

/** The verdict, or that the policy is not one. */
async function outcome({ evidence, judgement, policy }: Kind, more: object): Promise<string> {
  try {
    const read = readPolicy({ version, ...policy, ...more });
    return (await verifyEvidence(evidence, { now, ...judgement, policy: read })).verdict;
  } catch (error) {
    if (!(error instanceof VerifyError) || error.code !== "policy/malformed") throw error;
    return "no policy";
  }
}

for (const [name, kind] of Object.entries(kinds)) {
  test(`${name}: its policy accepts it`, async () => equal(await outcome(kind, {}), "accepted"));
  for (const [rule, value] of Object.entries(unmet)) {
    // Stated in the policy that accepts; or another tuple, which only adds to what is accepted.
    if (kind.policy[rule] === value || (rule === "references" && "runtimeEvents" in kind.policy)) continue;
    test(`${name}: not accepted with a rule ${rule} that nothing meets`, async () => {
      notEqual(await outcome(kind, { [rule]: value }), "accepted");
    });
  }
  for (const [rule, parts] of Object.entries(within)) {
    if (kind.policy[rule] === undefined && rule !== "td") continue;
    for (const [part, value] of Object.entries(parts)) {
      test(`${name}: not accepted with ${rule}.${part} that nothing meets`, async () => {
        const own = kind.policy[rule] as object | undefined;
        notEqual(await outcome(kind, { [rule]: { ...own, [part]: value } }), "accepted");
      });
    }
  }
}

test("rules for a TD's guest beside those for an enclave are not a policy", async () => {
  for (const rule of ["app", "volumes", "secureTime", "keyProviders", "td", "references", "events"]) {
    equal(await outcome(enclave, { [rule]: unmet[rule] }), "no policy", rule);
  }
});

const zero = ["00".repeat(48)];
for (const [name, change] of [
  ["an ID block that nobody signed in place of measurements", { measurements: undefined, idKeys: zero }],
  ["the same under any measurement", { measurements: "any", idKeys: zero }],
  ["nobody's author key", { measurements: undefined, idKeys: none(48), authorKeys: zero }],
  ["a family that the host may name", { familyIds: none(16) }],
  ["a version that the host may name", { minimumGuestSvn: 1 }],
  ["a least TCB of no level", { minimumTcb: { Milan: {} } }],
] as const) {
  test(`no policy: ${name}`, async () => {
    const kind = kinds["a SEV-SNP guest"]!;
    const rules = JSON.parse(JSON.stringify({ ...(kind.policy.snp as object), ...change }));
    equal(await outcome(kind, { snp: rules }), "no policy");
  });
}
