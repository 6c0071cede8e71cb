// SPDX-License-Identifier: Apache-2.0
/**
 * What is behind on a platform, by how much, and what updates it: from a quote and Intel's signed documents alone. It never
 * decides what is accepted; it explains what `tcb.ts` decided.
 */
import type { PckExtension } from "./pck.ts";
import type { TdReport } from "./quote.ts";
import { type AnyStatus, moduleIdentity, type QeIdentity, type TcbInfo, type TcbStatus } from "./tcb.ts";

/** What has to be done. */
export const remedies = {
  bios: "update the BIOS",
  microcode: "update the host's microcode package",
  "tdx-module": "update the TDX module (on some systems it comes with the BIOS)",
  "seam-loader": "update the SEAM loader",
  sinit: "update the SINIT ACM",
  pce: "update the host's SGX software (PCE)",
  "quoting-enclave": "update the host's quoting enclave (DCAP packages)",
  "refresh-pck":
    "if the host is updated already, fetch its PCK certificate anew: SGX components are the certificate's, and TDX's are new enough",
  "relaunch-td": "start this TD again: the host is updated, the TD was built before",
  configuration: "change the BIOS configuration as the advisories say",
} as const;
export type Remedy = keyof typeof remedies;

/** One component that is behind. */
export interface Shortfall {
  /** "SGX component 0 (Early Microcode Update)". */
  component: string;
  have: number;
  need: number;
  remedy: Remedy;
  /** Intel's document says nothing of the component's kind: the remedy follows from its place. */
  presumed: boolean;
}

/** What one set of Intel's documents says of a platform. */
export interface Advice {
  evaluationDataNumber: number;
  /** When the TCB info was issued, ISO 8601. */
  issued: string;
  /** Undefined: below every level. */
  status: AnyStatus | undefined;
  accepted: boolean;
  /** Advisories that the level reached is open to; and which of them the wanted level mitigates. */
  advisories: string[];
  mitigated: string[];
  shortfalls: Shortfall[];
  /** Days between the dates of the level reached and the wanted one; undefined where one of them is not there. */
  daysBehind: number | undefined;
  /** Remedies that are not about one component, and what cannot be helped. */
  notes: string[];
}

/** What an adviser looks at. `qeSvn`: ISVSVN of the quoting enclave. */
export interface AdvisedPlatform {
  pck: PckExtension;
  td: TdReport | undefined;
  qeSvn: number;
}

type Level = TcbInfo["tcbLevels"][number];
type Component = Level["tcb"]["sgxtcbcomponents"][number];

/**
 * Compares a platform with the best level whose status is accepted.
 * @param status as `evaluateTcb` found it; undefined where the platform is below every level
 */
export function adviseTcb(
  { pck, td, qeSvn }: AdvisedPlatform,
  tcbInfo: TcbInfo,
  qeIdentity: QeIdentity,
  status: AnyStatus | undefined,
  accepted: readonly TcbStatus[],
): Advice {
  const ok = (one: AnyStatus | undefined) =>
    one !== undefined && (accepted as readonly AnyStatus[]).includes(one);
  const wanted = tcbInfo.tcbLevels.find(({ tcbStatus }) => ok(tcbStatus));
  const firstTdx = td !== undefined && td.teeTcbSvn[1]! > 0 ? 2 : 0;
  const reached = tcbInfo.tcbLevels.find(({ tcb }) => behindOf(pck, td, tcb, firstTdx).length === 0);
  const notes: string[] = [];
  const shortfalls: Shortfall[] = [];
  if (wanted === undefined) notes.push("Intel offers no accepted level for this kind of processor");
  else shortfalls.push(...behindOf(pck, td, wanted.tcb, firstTdx));
  if (td !== undefined && td.teeTcbSvn[1]! > 0) shortfalls.push(...moduleShortfall(td, tcbInfo));
  const qeWanted = qeIdentity.tcbLevels.find(({ tcbStatus }) => tcbStatus === "UpToDate");
  if (qeWanted !== undefined && qeSvn < qeWanted.tcb.isvsvn) {
    shortfalls.push({
      component: "quoting enclave",
      have: qeSvn,
      need: qeWanted.tcb.isvsvn,
      remedy: "quoting-enclave",
      presumed: false,
    });
  }
  if (certificateIsOld(shortfalls, td)) notes.push(remedies["refresh-pck"]);
  if (status?.startsWith("TDRelaunch")) notes.push(remedies["relaunch-td"]);
  if (status?.includes("Configuration") && !ok(status)) notes.push(remedies.configuration);
  if (status?.includes("SWHardening") && !ok(status)) {
    notes.push("software in the guest must mitigate the advisories; a policy may accept that");
  }
  if (status === "Revoked")
    notes.push("no update helps the key: provision the platform again once it is updated");
  const open = [...new Set(reached?.advisoryIDs ?? [])].sort();
  const dates = [wanted?.tcbDate, reached?.tcbDate];
  return {
    evaluationDataNumber: Math.min(tcbInfo.tcbEvaluationDataNumber, qeIdentity.tcbEvaluationDataNumber),
    issued: new Date(tcbInfo.issueDate).toISOString(),
    status,
    accepted: ok(status),
    advisories: open,
    mitigated: open.filter((id) => wanted !== undefined && !wanted.advisoryIDs?.includes(id)),
    shortfalls,
    daysBehind:
      dates[0] === undefined || dates[1] === undefined
        ? undefined
        : Math.max(0, Math.round((dates[0] - dates[1]) / 86_400_000)),
    notes,
  };
}

/** The advice as lines, each one thing to know or do. */
export function adviceLines({ shortfalls, notes, advisories, daysBehind }: Advice): string[] {
  return [
    ...shortfalls.map(shortfallLine),
    ...notes,
    ...(daysBehind === undefined || daysBehind === 0
      ? []
      : [`${daysBehind} days behind the level that is asked for`]),
    ...(advisories.length === 0 ? [] : [`open to ${advisories.join(", ")}`]),
  ];
}

const shortfallLine = ({ component, have, need, remedy, presumed }: Shortfall): string =>
  `${component} is ${have}, needs ${need}: ${presumed ? "presumably " : ""}${remedies[remedy]}`;

/** What of TEE_TCB_SVN is below a policy's least, component by component, and what raises it. */
export function teeShortfallLines(td: TdReport, least: ArrayLike<number>, { tcbLevels }: TcbInfo): string[] {
  const described = tcbLevels[0]?.tcb.tdxtcbcomponents ?? [];
  return [...td.teeTcbSvn].flatMap((have, i) => {
    const need = least[i] ?? 0;
    const place = i < 2 ? "tdx-module" : "microcode";
    return have >= need
      ? []
      : [shortfallLine(shortfall("TDX", i, have, { ...described[i], svn: need }, place))];
  });
}

/** Components below a level, TDX's from `firstTdx` on. */
function behindOf(
  pck: PckExtension,
  td: TdReport | undefined,
  tcb: Level["tcb"],
  firstTdx: number,
): Shortfall[] {
  const found: Shortfall[] = [];
  for (const [i, component] of tcb.sgxtcbcomponents.entries()) {
    const have = pck.sgxSvns[i]!;
    if (have < component.svn) found.push(shortfall("SGX", i, have, component, sgxRemedies[i] ?? "bios"));
  }
  if (pck.pceSvn < tcb.pcesvn) {
    found.push({ component: "PCE", have: pck.pceSvn, need: tcb.pcesvn, remedy: "pce", presumed: false });
  }
  for (const [i, component] of td === undefined ? [] : (tcb.tdxtcbcomponents ?? []).entries()) {
    const have = td!.teeTcbSvn[i]!;
    if (i >= firstTdx && have < component.svn) {
      found.push(shortfall("TDX", i, have, component, i < 2 ? "tdx-module" : "microcode"));
    }
  }
  return found;
}

/** By place, where Intel's document does not say what a component is. */
const sgxRemedies: readonly Remedy[] = [
  "bios",
  "microcode",
  "sinit",
  "bios",
  "bios",
  "bios",
  "bios",
  "seam-loader",
];

/** By the component's type and category in Intel's document. */
const byType: readonly [RegExp, Remedy][] = [
  [/late microcode/i, "microcode"],
  [/early microcode/i, "bios"],
  [/SINIT/i, "sinit"],
  [/SEAMLDR/i, "seam-loader"],
  [/TDX module/i, "tdx-module"],
];

function shortfall(kind: string, i: number, have: number, component: Component, place: Remedy): Shortfall {
  const { category, type, svn: need } = component;
  const named = byType.find(([pattern]) => type !== undefined && pattern.test(type))?.[1];
  const remedy = named ?? (category !== undefined && /BIOS/i.test(category) ? "bios" : undefined);
  const what = type ?? category;
  return {
    component: `${kind} component ${i}${what === undefined ? "" : ` (${what})`}`,
    have,
    need,
    remedy: remedy ?? place,
    presumed: remedy === undefined,
  };
}

/** The module that built the TD, against the newest of its major version that is up to date. */
function moduleShortfall(td: TdReport, tcbInfo: TcbInfo): Shortfall[] {
  const [have, major] = [td.teeTcbSvn[0]!, td.teeTcbSvn[1]!];
  const need = moduleIdentity(tcbInfo, major)?.tcbLevels.find(({ tcbStatus }) => tcbStatus === "UpToDate")
    ?.tcb.isvsvn;
  return need === undefined || have >= need
    ? []
    : [{ component: `TDX module ${major}`, have, need, remedy: "tdx-module", presumed: false }];
}

/**
 * SGX components are the PCK certificate's, TDX components the machine's as it runs: SGX alone behind on a TDX host
 * means, as a rule, an old certificate.
 */
const certificateIsOld = (shortfalls: readonly Shortfall[], td: TdReport | undefined): boolean =>
  td !== undefined &&
  shortfalls.some(({ component }) => component.startsWith("SGX ")) &&
  !shortfalls.some(({ component }) => component.startsWith("TDX "));
