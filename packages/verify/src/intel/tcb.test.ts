// SPDX-License-Identifier: Apache-2.0
/** TCB evaluation against the rules of Intel's quote verification, section 4.1.2.4.17, one rule a case. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import type { TdReport } from "./quote.ts";
import { evaluateTcb, type QeIdentity, qeIdentitySchema, type TcbInfo } from "./tcb.ts";

type Level = TcbInfo["tcbLevels"][number];
type SoftwareLevel = QeIdentity["tcbLevels"][number];
const components = (...svns: number[]) => Array.from({ length: 16 }, (_, i) => ({ svn: svns[i] ?? 0 }));
const day = 86_400_000;

const level = (
  tdx: number[],
  tcbStatus: Level["tcbStatus"],
  advisoryIDs?: string[],
  sgx: number[] = [3],
): Level => ({
  tcb: { sgxtcbcomponents: components(...sgx), pcesvn: 10, tdxtcbcomponents: components(...tdx) },
  tcbDate: 10 * day,
  tcbStatus,
  ...(advisoryIDs && { advisoryIDs }),
});
const software = (
  isvsvn: number,
  tcbStatus: SoftwareLevel["tcbStatus"],
  advisoryIDs?: string[],
): SoftwareLevel => ({
  tcb: { isvsvn },
  tcbDate: 20 * day,
  tcbStatus,
  ...(advisoryIDs && { advisoryIDs }),
});
const moduleFields = { mrsigner: "", attributes: "", attributesMask: "" };

interface Setting {
  levels: Level[];
  module?: SoftwareLevel[];
  qe?: SoftwareLevel;
  /** teeTcbSvn and teeTcbSvn2. */
  tee?: number[];
  tee2?: number[];
  sgx?: number[];
  /** tcbEvaluationDataNumber of TCB info and QE identity. */
  numbers?: [tcbInfo: number, qeIdentity: number];
}

function evaluate(setting: Setting) {
  const { levels, module = [], qe = software(4, "UpToDate"), tee, tee2, sgx = [3] } = setting;
  const { numbers = [18, 18] } = setting;
  const pck = {
    ppid: "",
    piid: undefined,
    pceId: "",
    fmspc: "",
    pceSvn: 10,
    sgxSvns: components(...sgx).map(({ svn }) => svn),
  };
  const bytes = (svns: number[]) => Uint8Array.from(components(...svns), ({ svn }) => svn);
  const td =
    tee &&
    ({ teeTcbSvn: bytes(tee), ...(tee2 && { teeTcbSvn2: bytes(tee2) }) } as Partial<TdReport> as TdReport);
  const tcbInfo = {
    tcbLevels: levels,
    tdxModuleIdentities: [{ id: "tdx_01", ...moduleFields, tcbLevels: module }],
    tcbEvaluationDataNumber: numbers[0],
  } as Partial<TcbInfo> as TcbInfo;
  const qeIdentity = { tcbEvaluationDataNumber: numbers[1] } as Partial<QeIdentity> as QeIdentity;
  return evaluateTcb(pck, td, tcbInfo, qeIdentity, qe);
}

test("the first level counts that SGX, PCE and TDX components all reach", () => {
  const levels = [level([5, 0, 4], "UpToDate"), level([5, 0, 3], "OutOfDate"), level([5, 0, 2], "Revoked")];
  equal(evaluate({ levels, tee: [5, 0, 3] }).status, "OutOfDate");
});

test("module 1.0: components 0 and 1 count", () => {
  throws(() => evaluate({ levels: [level([5, 0, 3], "UpToDate")], tee: [4, 0, 3] }), {
    code: "tcb/no-level",
  });
});

test("module 1.5: components 0 and 1 are the module's business, from index 2 on they count", () => {
  const setting = { levels: [level([5, 3, 3], "UpToDate")], module: [software(2, "UpToDate")] };
  equal(evaluate({ ...setting, tee: [2, 1, 3] }).status, "UpToDate");
  throws(() => evaluate({ ...setting, tee: [2, 1, 2] }), { code: "tcb/no-level" });
});

test("module identities are found whatever the case of their id", () => {
  equal(
    evaluate({ levels: [level([], "UpToDate")], module: [software(2, "UpToDate")], tee: [2, 1] }).status,
    "UpToDate",
  );
});

const converging: [platform: Level["tcbStatus"], software: "OutOfDate", expected: string][] = [
  ["UpToDate", "OutOfDate", "OutOfDate"],
  ["SWHardeningNeeded", "OutOfDate", "OutOfDate"],
  ["ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"],
  ["ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"],
  ["OutOfDate", "OutOfDate", "OutOfDate"],
  ["OutOfDateConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"],
];
for (const [platform, status, expected] of converging) {
  test(`${platform} with an ${status} module is ${expected}`, () => {
    const module = [software(9, "UpToDate"), software(1, status)];
    equal(evaluate({ levels: [level([], platform)], module, tee: [2, 1] }).status, expected);
  });
  test(`${platform} with an ${status} quoting enclave is ${expected}`, () => {
    equal(evaluate({ levels: [level([], platform)], qe: software(1, status), tee: [2, 0] }).status, expected);
  });
  test(`${platform} stays with an up-to-date module and enclave`, () => {
    equal(
      evaluate({ levels: [level([], platform)], module: [software(1, "UpToDate")], tee: [2, 1] }).status,
      platform,
    );
  });
}

test("a revoked level, module or enclave is refused", () => {
  const fine = { levels: [level([], "UpToDate")], module: [software(1, "UpToDate")], tee: [2, 1] };
  throws(() => evaluate({ ...fine, levels: [level([], "Revoked")] }), { code: "tcb/revoked" });
  throws(() => evaluate({ ...fine, module: [software(1, "Revoked")] }), { code: "tcb/revoked" });
  throws(() => evaluate({ ...fine, qe: software(1, "Revoked") }), { code: "tcb/revoked" });
});

test("SGX: TDX components do not count", () => {
  equal(evaluate({ levels: [level([9, 9, 9], "SWHardeningNeeded")] }).status, "SWHardeningNeeded");
});

// 4.1.2.4.17.4.3: the module that runs now is current, the one that built the TD was not.
const relaunch = {
  levels: [level([5, 0, 3], "UpToDate"), level([5, 0, 2], "OutOfDate")],
  module: [software(5, "UpToDate"), software(2, "OutOfDate")],
  tee: [2, 1, 3],
  tee2: [5, 1, 3],
};
const relaunches: [name: string, expected: string, change: Partial<Setting>][] = [
  ["the current module is up to date", "TDRelaunchAdvised", {}],
  ["the current module is a 1.0 that reaches the newest level", "TDRelaunchAdvised", { tee2: [5, 0, 3] }],
  ["the current module is a 1.0 below the newest level", "OutOfDate", { tee2: [4, 0, 3] }],
  ["the current module is out of date too", "OutOfDate", { tee2: [4, 1, 3] }],
  ["component 2 is below the newest level", "OutOfDate", { tee2: [5, 1, 2] }],
  ["the report does not tell (TD 1.0)", "OutOfDate", { tee2: undefined as never }],
  ["the quoting enclave is out of date", "OutOfDate", { qe: software(1, "OutOfDate") }],
  ["the SGX platform is out of date", "OutOfDate", { levels: [level([5, 0, 3], "OutOfDate")] }],
  [
    "the platform needs configuration",
    "TDRelaunchAdvisedConfigurationNeeded",
    { levels: [level([5, 0, 3], "ConfigurationNeeded")] },
  ],
  ["the module that built the TD is up to date", "UpToDate", { tee: [5, 1, 3] }],
];
for (const [name, expected, change] of relaunches) {
  test(`TD relaunch: ${name}: ${expected}`, () =>
    equal(evaluate({ ...relaunch, ...change }).status, expected));
}

test("TD relaunch: an unknown current module is refused", () => {
  throws(() => evaluate({ ...relaunch, tee2: [5, 7, 3] }), { code: "tdx-module/unknown" });
});

test("advisories of level, module and enclave are merged, each once; the oldest date counts", () => {
  const verdict = evaluate({
    levels: [level([], "UpToDate", ["B", "A"])],
    module: [software(1, "UpToDate", ["C", "A"])],
    qe: software(1, "UpToDate", ["D"]),
    tee: [2, 1],
  });
  deepEqual(verdict.advisories, ["A", "B", "C", "D"]);
  equal(verdict.date, 10 * day);
});

test("the evaluation number is the lower one of TCB info and QE identity", () => {
  const number = (...numbers: [number, number]) =>
    evaluate({ levels: [level([], "UpToDate")], tee: [2], numbers }).evaluationDataNumber;
  equal(number(18, 17), 17);
  equal(number(16, 17), 16);
});

/** A document's levels as they are read, by the given SVNs. */
const softwareSvns = (...svns: number[]) =>
  qeIdentitySchema({
    id: "TD_QE",
    issueDate: "2026-01-01T00:00:00Z",
    nextUpdate: "2026-01-02T00:00:00Z",
    tcbEvaluationDataNumber: 18,
    miscselect: "00".repeat(4),
    miscselectMask: "00".repeat(4),
    attributes: "00".repeat(16),
    attributesMask: "00".repeat(16),
    mrsigner: "00".repeat(32),
    isvprodid: 2,
    tcbLevels: svns.map((isvsvn) => ({
      tcb: { isvsvn },
      tcbDate: "2026-01-01T00:00:00Z",
      tcbStatus: "UpToDate",
    })),
  }).tcbLevels.map(({ tcb }) => tcb.isvsvn);

test("levels are taken best first, whatever their order in the document", () => {
  deepEqual(softwareSvns(2, 8, 4), [8, 4, 2]);
  throws(() => softwareSvns(2, 8, 2), /two TCB levels are the same/);
});
