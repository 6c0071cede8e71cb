// SPDX-License-Identifier: Apache-2.0
/** Advice: each component that can be behind, what is said to update it, and that advice never changes a verdict. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { type Hierarchy, hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote, type QuoteFormat, type TdSpec } from "@caisson/simulated/quotes";
import { readPolicy } from "../policy/policy.ts";
import { now, times } from "../testing/evidence.ts";
import { verifyEvidence } from "../verify.ts";
import { adviseQuote } from "./advise.ts";
import { verifyQuote } from "./genuine.ts";
import { adviceLines, type Remedy } from "./tcb-advice.ts";

interface Level {
  tcb: {
    sgxtcbcomponents: { svn: number; category?: unknown; type?: unknown }[];
    tdxtcbcomponents: { svn: number; category?: unknown; type?: unknown }[];
    pcesvn: number;
  };
  tcbDate: string;
  tcbStatus: string;
  advisoryIDs?: string[];
}

/** A hierarchy in which an older level stands below the one that the platform does not reach. */
function behindBy(
  change: (wanted: Level["tcb"]) => void,
  more: (h: Hierarchy) => void = () => {},
  td: Partial<TdSpec> = {},
  format?: QuoteFormat,
) {
  const h = hierarchy("advice", times);
  const info = h.tcbInfo as { tcbLevels: Level[] };
  const reached = info.tcbLevels[0]!;
  const wanted = structuredClone(reached);
  change(wanted.tcb);
  wanted.tcbDate = "2026-01-31T00:00:00Z";
  reached.tcbStatus = "OutOfDate";
  reached.tcbDate = "2026-01-01T00:00:00Z";
  reached.advisoryIDs = ["INTEL-SA-00002", "INTEL-SA-00001"];
  wanted.advisoryIDs = ["INTEL-SA-00002"];
  info.tcbLevels = [wanted, reached];
  more(h);
  const { trust, collateral, pckChain } = mint(h);
  return { quote: issueQuote(h, pckChain, td, format), collateral, trust };
}
const advise = ({ quote, collateral, trust }: ReturnType<typeof behindBy>) =>
  adviseQuote(quote, collateral, now, trust, ["UpToDate"]);

const cases: [
  name: string,
  change: (tcb: Level["tcb"]) => void,
  component: RegExp,
  remedy: Remedy,
  presumed: boolean,
][] = [
  [
    "microcode in the BIOS",
    ({ sgxtcbcomponents: c }) =>
      Object.assign(c[0]!, { svn: 9, category: "BIOS", type: "Early Microcode Update" }),
    /SGX component 0 \(Early/,
    "bios",
    false,
  ],
  [
    "microcode of the host",
    ({ sgxtcbcomponents: c }) =>
      Object.assign(c[1]!, { svn: 9, category: "OS/VMM", type: "SGX Late Microcode Update" }),
    /SGX component 1/,
    "microcode",
    false,
  ],
  [
    "SINIT",
    ({ sgxtcbcomponents: c }) => Object.assign(c[2]!, { svn: 9, category: "OS/VMM", type: "TXT SINIT" }),
    /SINIT/,
    "sinit",
    false,
  ],
  [
    "BIOS by category",
    ({ sgxtcbcomponents: c }) => Object.assign(c[3]!, { svn: 9, category: "BIOS" }),
    /\(BIOS\)/,
    "bios",
    false,
  ],
  [
    "the SEAM loader",
    ({ sgxtcbcomponents: c }) => Object.assign(c[7]!, { svn: 9, category: "OS/VMM", type: "SEAMLDR ACM" }),
    /SEAMLDR/,
    "seam-loader",
    false,
  ],
  [
    "a component of which nothing is said",
    ({ sgxtcbcomponents: c }) => Object.assign(c[1]!, { svn: 9 }),
    /SGX component 1$/,
    "microcode",
    true,
  ],
  [
    "what is said is not a text",
    ({ sgxtcbcomponents: c }) => Object.assign(c[3]!, { svn: 9, category: { x: 1 }, type: "\u0007" }),
    /SGX component 3$/,
    "bios",
    true,
  ],
  [
    "TDX's microcode",
    ({ tdxtcbcomponents: c }) =>
      Object.assign(c[2]!, { svn: 9, category: "OS/VMM", type: "TDX Late Microcode Update" }),
    /TDX component 2/,
    "microcode",
    false,
  ],
  ["PCE", (tcb) => (tcb.pcesvn = 99), /^PCE$/, "pce", false],
];
for (const [name, change, component, remedy, presumed] of cases) {
  test(`behind: ${name}`, async () => {
    const advice = await advise(behindBy(change));
    deepEqual([advice.status, advice.accepted, advice.daysBehind], ["OutOfDate", false, 30]);
    equal(advice.shortfalls.length, 1);
    const [one] = advice.shortfalls;
    match(one!.component, component);
    deepEqual([one!.remedy, one!.presumed], [remedy, presumed]);
    deepEqual(
      [advice.advisories, advice.mitigated],
      [["INTEL-SA-00001", "INTEL-SA-00002"], ["INTEL-SA-00001"]],
    );
  });
}

test("an old certificate: SGX alone is behind on a TDX host", async () => {
  const lines = adviceLines(await advise(behindBy(({ sgxtcbcomponents: c }) => (c[0]!.svn = 9))));
  ok(lines.some((line) => /PCK certificate anew/.test(line)));
  const both = behindBy(({ sgxtcbcomponents: c, tdxtcbcomponents: t }) => {
    c[0]!.svn = 9;
    t[2]!.svn = 9;
  });
  ok(!adviceLines(await advise(both)).some((line) => /PCK certificate anew/.test(line)));
});

test("the TDX module and the quoting enclave", async () => {
  const built = behindBy(
    () => {},
    (h) => {
      const info = h.tcbInfo as { tcbLevels: Level[]; tdxModuleIdentities: { tcbLevels: object[] }[] };
      info.tcbLevels = info.tcbLevels.slice(0, 1);
      const level = (isvsvn: number, tcbStatus: string) => ({
        tcb: { isvsvn },
        tcbDate: "2026-01-01T00:00:00Z",
        tcbStatus,
      });
      info.tdxModuleIdentities[0]!.tcbLevels = [level(11, "UpToDate"), level(5, "OutOfDate")];
      (h.qeIdentity as { tcbLevels: object[] }).tcbLevels = [level(8, "UpToDate"), level(4, "OutOfDate")];
    },
  );
  const { shortfalls } = await advise(built);
  deepEqual(
    shortfalls.map(({ component, have, need, remedy }) => [component, have, need, remedy]),
    [
      ["TDX module 1", 5, 11, "tdx-module"],
      ["quoting enclave", 4, 8, "quoting-enclave"],
    ],
  );
});

test("below every level: no status, and the way to the wanted one all the same", async () => {
  const built = behindBy(
    ({ sgxtcbcomponents: c }) => (c[0]!.svn = 9),
    (h) => ((h.tcbInfo as { tcbLevels: Level[] }).tcbLevels.length = 1),
  );
  const advice = await advise(built);
  deepEqual([advice.status, advice.accepted, advice.daysBehind], [undefined, false, undefined]);
  equal(advice.shortfalls[0]!.need, 9);
  await rejects(
    verifyQuote(built.quote, built.collateral, now, built.trust),
    (error: Error & { code?: string }) => {
      equal(error.code, "tcb/no-level");
      match(error.message, /SGX component 0 is 3, needs 9: presumably update the BIOS/);
      return true;
    },
  );
});

test("no level that is accepted at all", async () => {
  const built = behindBy(
    () => {},
    (h) => {
      const info = h.tcbInfo as { tcbLevels: Level[] };
      info.tcbLevels = info.tcbLevels.slice(1);
    },
  );
  match(adviceLines(await advise(built)).join("\n"), /Intel offers no accepted level/);
});

test("a platform that is up to date: nothing is said", async () => {
  const h = hierarchy("advice", times);
  const { trust, collateral, pckChain } = mint(h);
  const advice = await adviseQuote(issueQuote(h, pckChain), collateral, now, trust, ["UpToDate"]);
  deepEqual([advice.accepted, adviceLines(advice), advice.evaluationDataNumber], [true, [], 18]);
});

test("every refusal for the TCB says what would help", async () => {
  const judge = async (built: ReturnType<typeof behindBy>, policy: object = {}) => {
    const { collateral, trust, quote } = built;
    const found = await verifyEvidence(
      { platform: "tdx", quote },
      { policy: readPolicy({ version: "caisson/policy/v1", ...policy }), now, collateral, trust },
    );
    return new Map(
      found.checks.flatMap(({ code, reason }) => (code === undefined ? [] : [[code as string, reason]])),
    );
  };
  const old = behindBy(({ sgxtcbcomponents: c }) => (c[0]!.svn = 9));
  const refused = await judge(old, { tcb: { minimumEvaluationNumber: 19 } });
  for (const code of ["policy/tcb-status", "policy/advisories"])
    match(refused.get(code) ?? "", /is \d+, needs 9/, code);
  match(refused.get("policy/tcb-evaluation") ?? "", /fetch it anew/);
});

test("a quote that is wrong gets no advice", async () => {
  const built = behindBy(({ sgxtcbcomponents: c }) => (c[0]!.svn = 9));
  const quote = built.quote.map((byte, i) => (i === 300 ? byte ^ 1 : byte));
  await rejects(advise({ ...built, quote }), { code: "quote/signature" });
});
