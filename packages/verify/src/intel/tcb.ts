// SPDX-License-Identifier: Apache-2.0
/**
 * TCB levels: how good Intel says a platform's firmware, TDX module and quoting enclave are.
 *
 * The documents are TCB info (version 3) and QE identity (version 2) of the PCS API v4; the algorithm is section
 * 4.1.2.4.17 of Intel's quote verification, with the rule that from TDX module 1.5 on (teeTcbSvn[1] > 0) the first
 * two TDX components are judged by the module's identity and not by the platform's level.
 */

import {
  hex,
  type Infer,
  integer,
  list,
  object,
  oneOf,
  optional,
  type Schema,
  SchemaError,
  text,
  timestamp,
} from "@caisson/vocabulary/schema";
import { VerifyError } from "../errors.ts";
import type { PckExtension } from "./pck.ts";
import type { TdReport } from "./quote.ts";

/** Statuses that a policy may accept; "Revoked" is refused before any policy is asked. */
export const tcbStatuses = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "TDRelaunchAdvised",
  "TDRelaunchAdvisedConfigurationNeeded",
] as const;
export type TcbStatus = (typeof tcbStatuses)[number];
export type AnyStatus = TcbStatus | "Revoked";

const platformStatus = oneOf(
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
);
const softwareStatus = oneOf("UpToDate", "OutOfDate", "Revoked");

// Intel adds fields to these documents from time to time; they are signed, and what is read here is complete.
const loose = "loose";
const svn = integer(0, 0xffff);
/** What a component is, for people: whatever stands there never decides anything. */
const informative: Schema<string | undefined> = (value) =>
  typeof value === "string" && /^[\x20-\x7e]{1,64}$/.test(value) ? value : undefined;
const components = list(
  object({ svn, category: optional(informative), type: optional(informative) }, loose),
  16,
  16,
);
const advisories = optional(list(text("an advisory id", /^[\w-]+$/, 64), 0, 256));
const fmspc = hex(6);

/**
 * A list of TCB levels, best first as `svns` ranks them. Intel publishes them in that order; its library sorts them
 * and refuses two of the same rank, so that the first level that is reached does not depend on the order of a file.
 */
function ranked<T>(levels: Schema<T[]>, svns: (level: T) => number[]): Schema<T[]> {
  return (value) => {
    const entries = levels(value).map((level) => ({ level, svns: svns(level) }));
    entries.sort((a, b) => compare(b.svns, a.svns));
    if (entries.some((entry, i) => i > 0 && compare(entry.svns, entries[i - 1]!.svns) === 0)) {
      throw new SchemaError("", "two TCB levels are the same");
    }
    return entries.map(({ level }) => level);
  };
}

/** Which of two lists of one length is the larger at the first difference: above, below or equal to 0. */
function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}

const softwareLevels = ranked(
  list(
    object(
      {
        tcb: object({ isvsvn: svn }, loose),
        tcbDate: timestamp,
        tcbStatus: softwareStatus,
        advisoryIDs: advisories,
      },
      loose,
    ),
    1,
    64,
  ),
  ({ tcb }) => [tcb.isvsvn],
);

const moduleFields = { mrsigner: hex(48), attributes: hex(8), attributesMask: hex(8) };

const dates = { issueDate: timestamp, nextUpdate: timestamp };

/** What is read of every version, to refuse other versions by name. */
export const versionedSchema = object({ version: integer(0, 1000) }, loose);

const platformLevels = ranked(
  list(
    object(
      {
        tcb: object(
          { sgxtcbcomponents: components, pcesvn: svn, tdxtcbcomponents: optional(components) },
          loose,
        ),
        tcbDate: timestamp,
        tcbStatus: platformStatus,
        advisoryIDs: advisories,
      },
      loose,
    ),
    1,
    256,
  ),
  ({ tcb: { sgxtcbcomponents, pcesvn, tdxtcbcomponents = [] } }) => [
    ...sgxtcbcomponents.map((component) => component.svn),
    pcesvn,
    ...tdxtcbcomponents.map((component) => component.svn),
  ],
);

const tcbInfoFields = object(
  {
    id: oneOf("SGX", "TDX"),
    ...dates,
    fmspc,
    pceId: hex(2),
    tcbType: oneOf(0),
    tcbEvaluationDataNumber: integer(0, 1_000_000),
    tdxModule: optional(object(moduleFields, loose)),
    tdxModuleIdentities: optional(
      list(
        object(
          {
            id: text("TDX_ and two digits", /^TDX_[0-9A-Fa-f]{2}$/i, 6),
            ...moduleFields,
            tcbLevels: softwareLevels,
          },
          loose,
        ),
        1,
        64,
      ),
    ),
    tcbLevels: platformLevels,
  },
  loose,
);
export type TcbInfo = Infer<typeof tcbInfoFields>;

/** TCB info: that of TDX has a module and TDX components in every level, that of SGX has neither. */
export const tcbInfoSchema: Schema<TcbInfo> = (value) => {
  const info = tcbInfoFields(value);
  const tdx = info.id === "TDX";
  if ((info.tdxModule !== undefined) !== tdx || (info.tdxModuleIdentities !== undefined && !tdx)) {
    throw new SchemaError("tdxModule", "TCB info of TDX, and only of TDX, describes the TDX module");
  }
  if (info.tcbLevels.some(({ tcb }) => (tcb.tdxtcbcomponents !== undefined) !== tdx)) {
    throw new SchemaError("tcbLevels", "levels of TDX, and only of TDX, have TDX components");
  }
  return info;
};

export const qeIdentitySchema = object(
  {
    id: oneOf("QE", "TD_QE"),
    ...dates,
    tcbEvaluationDataNumber: integer(0, 1_000_000),
    miscselect: hex(4),
    miscselectMask: hex(4),
    attributes: hex(16),
    attributesMask: hex(16),
    mrsigner: hex(32),
    isvprodid: svn,
    tcbLevels: softwareLevels,
  },
  loose,
);
export type QeIdentity = Infer<typeof qeIdentitySchema>;

type SoftwareLevel = TcbInfo["tcbLevels"][number] | QeIdentity["tcbLevels"][number];
type ModuleIdentity = NonNullable<TcbInfo["tdxModuleIdentities"]>[number];

/** What the platform amounts to. */
export interface TcbVerdict {
  status: TcbStatus;
  advisories: string[];
  /** Of the oldest level that counts, milliseconds since 1970. */
  date: number;
  /** The lower one of TCB info and QE identity: whoever brings the collateral could have kept an old one of either. */
  evaluationDataNumber: number;
}

/** First level that a software SVN reaches; undefined when it is below all. */
export function softwareLevel(levels: QeIdentity["tcbLevels"], isvSvn: number) {
  return levels.find((level) => isvSvn >= level.tcb.isvsvn);
}

/** The identity of the TDX module of a major version (teeTcbSvn[1]); ids differ in case between documents. */
export function moduleIdentity(tcbInfo: TcbInfo, major: number): ModuleIdentity | undefined {
  const id = `TDX_${major.toString(16).padStart(2, "0")}`.toUpperCase();
  return tcbInfo.tdxModuleIdentities?.find((identity) => identity.id.toUpperCase() === id);
}

const reaches = (svns: ArrayLike<number>, wanted: readonly { svn: number }[], from = 0): boolean =>
  wanted.every((component, i) => i < from || svns[i]! >= component.svn);

/** What an out-of-date module or QE makes of a platform's status; worse ones stay as they are. */
const outdated: Partial<Record<AnyStatus, TcbStatus>> = {
  UpToDate: "OutOfDate",
  SWHardeningNeeded: "OutOfDate",
  ConfigurationNeeded: "OutOfDateConfigurationNeeded",
  ConfigurationAndSWHardeningNeeded: "OutOfDateConfigurationNeeded",
};

function converge(platform: AnyStatus, software: "UpToDate" | "OutOfDate" | "Revoked"): AnyStatus {
  if (software === "Revoked") return "Revoked";
  return software === "OutOfDate" ? (outdated[platform] ?? platform) : platform;
}

/**
 * Judges a platform. `td` is undefined for SGX. Throws VerifyError "tcb/no-level" when it is below every level,
 * "tcb/module-level" when its TDX module is, and "tcb/revoked".
 */
export function evaluateTcb(
  pck: PckExtension,
  td: TdReport | undefined,
  tcbInfo: TcbInfo,
  qeIdentity: QeIdentity,
  qeLevel: QeIdentity["tcbLevels"][number],
): TcbVerdict {
  const sgxLevels = tcbInfo.tcbLevels.filter(
    ({ tcb }) => reaches(pck.sgxSvns, tcb.sgxtcbcomponents) && pck.pceSvn >= tcb.pcesvn,
  );
  const firstTdx = td !== undefined && td.teeTcbSvn[1]! > 0 ? 2 : 0;
  const level =
    td === undefined
      ? sgxLevels[0]
      : sgxLevels.find(
          ({ tcb }) =>
            tcb.tdxtcbcomponents !== undefined && reaches(td.teeTcbSvn, tcb.tdxtcbcomponents, firstTdx),
        );
  if (level === undefined) {
    throw new VerifyError("tcb/no-level", "the platform is below every TCB level that Intel lists", {
      actual: `SGX ${pck.sgxSvns.join(".")}, PCE ${pck.pceSvn}, TDX ${td?.teeTcbSvn.join(".") ?? "none"}`,
    });
  }
  const moduleLevel = td === undefined ? undefined : tdxModuleLevel(td, tcbInfo);
  let status = converge(level.tcbStatus, moduleLevel?.tcbStatus ?? "UpToDate");
  if (
    moduleLevel?.tcbStatus === "OutOfDate" &&
    qeLevel.tcbStatus === "UpToDate" &&
    relaunchHelps(sgxLevels[0]!.tcbStatus, status, td!, tcbInfo)
  ) {
    const configure = [sgxLevels[0]!.tcbStatus, status].some((s) => s.includes("Configuration"));
    status = configure ? "TDRelaunchAdvisedConfigurationNeeded" : "TDRelaunchAdvised";
  }
  status = converge(status, qeLevel.tcbStatus);
  if (status === "Revoked") {
    throw new VerifyError("tcb/revoked", "the platform, its TDX module or its quoting enclave is revoked");
  }
  const parts: (SoftwareLevel | undefined)[] = [level, moduleLevel, qeLevel];
  return {
    status,
    advisories: [...new Set(parts.flatMap((part) => part?.advisoryIDs ?? []))].sort(),
    date: Math.min(...parts.flatMap((part) => (part === undefined ? [] : [part.tcbDate]))),
    evaluationDataNumber: Math.min(tcbInfo.tcbEvaluationDataNumber, qeIdentity.tcbEvaluationDataNumber),
  };
}

/** Level of the TDX module that built the TD; undefined for modules before 1.5, which the platform's level covers. */
function tdxModuleLevel(td: TdReport, tcbInfo: TcbInfo): QeIdentity["tcbLevels"][number] | undefined {
  const [isvSvn, major] = [td.teeTcbSvn[0]!, td.teeTcbSvn[1]!];
  if (major === 0) return undefined;
  const level = softwareLevel(moduleIdentity(tcbInfo, major)?.tcbLevels ?? [], isvSvn);
  if (level === undefined) {
    throw new VerifyError("tcb/module-level", "the TDX module is below every level that Intel lists", {
      actual: `module ${major}, SVN ${isvSvn}`,
    });
  }
  return level;
}

/**
 * Whether the TD was built by an out-of-date module on a machine that runs a current one by now (teeTcbSvn2), so
 * that relaunching it is all that is needed (4.1.2.4.17.4.3). Only TD 1.5 reports tell.
 */
function relaunchHelps(sgx: AnyStatus, merged: AnyStatus, td: TdReport, tcbInfo: TcbInfo): boolean {
  const current = td.teeTcbSvn2;
  if (
    current === undefined ||
    sgx === "Revoked" ||
    sgx.startsWith("OutOfDate") ||
    !merged.startsWith("OutOfDate")
  ) {
    return false;
  }
  const newest = tcbInfo.tcbLevels[0]!.tcb.tdxtcbcomponents;
  if (newest === undefined || current[2]! < newest[2]!.svn) return false;
  if (current[1] === 0) return current[0]! >= newest[0]!.svn;
  const identity = moduleIdentity(tcbInfo, current[1]!);
  if (identity === undefined) {
    throw new VerifyError("tdx-module/unknown", "Intel lists no TDX module of the version that runs now", {
      actual: `module ${current[1]}`,
    });
  }
  return current[0]! >= identity.tcbLevels[0]!.tcb.isvsvn;
}
