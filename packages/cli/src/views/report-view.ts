// SPDX-License-Identifier: Apache-2.0
/** A report of verification, and what a quote says, as text for a person. */
import { styleText } from "node:util";
import {
  type Check,
  type CheckCode,
  notReached,
  type Outcome,
  type PlatformSummary,
  type Report,
} from "@caisson/verify";
import { tcbText } from "@caisson/verify/amd-products";
import type { Description } from "@caisson/verify/describe";
import { type Doubt, doubtOf, type Terms, termsOf } from "@caisson/verify/terms";
import { isPlatform, provesHardware } from "@caisson/vocabulary/platforms";
import { printable } from "./printable.ts";

const marks: Record<Outcome, [mark: string, colour: "green" | "red" | "yellow"]> = {
  pass: ["pass", "green"],
  fail: ["FAIL", "red"],
  "not-checked": ["open", "yellow"],
};

const unreached = ["----", "dim"] as const;

/** What each verdict is called, by what was asked. */
const words = {
  genuine: { accepted: "GENUINE", rejected: "NOT GENUINE", undetermined: "CANNOT TELL" },
  "genuine-and-acceptable": { accepted: "ACCEPTED", rejected: "REJECTED", undetermined: "CANNOT TELL" },
} as const;
const colours = { accepted: "green", rejected: "red", undetermined: "yellow" } as const;
const question = (scope: Report["scope"], { evidence, subject }: Terms): string =>
  scope === "genuine"
    ? `is the ${evidence} genuine? (that is all: without --policy nothing is said about what runs in the ${subject})`
    : `is the ${evidence} genuine, and acceptable to the policy?`;

/** What stands in the way, and what to do about it. */
const doubts: Record<Doubt, (vendor: string) => readonly [but: string, fix: string]> = {
  form: () => ["its form is not judged here", "a newer version of Caisson"],
  later: () => [
    "it was made after the time at which it is judged",
    "--at with a later time, or set this machine's clock",
  ],
  missing: (vendor) => [
    "not all that vouches for it is at hand",
    `--collateral fetch asks ${vendor}; --collateral FILE reads what was fetched`,
  ],
  day: (vendor) => [
    "what vouches for it is not valid at that time",
    `--collateral fetch asks ${vendor} for today's; --at TIME judges as of another day`,
  ],
  collateral: (vendor) => [
    "this collateral cannot vouch for it",
    `--collateral with this platform's, valid at that time; --collateral fetch asks ${vendor}`,
  ],
};
function undetermined(codes: readonly CheckCode[], { vendor }: Terms): string {
  const [but, fix] = doubts[doubtOf(codes)](vendor);
  return `  nothing is wrong with it as far as it was judged, but ${but}\n  try      ${fix}`;
}

/** What can make a register differ, and the command that tells which of it did. */
const candidates: Partial<Record<CheckCode, readonly [causes: string, command: string]>> = {
  "registers/mrtd": ["another firmware", "caisson measure --firmware FILE"],
  "registers/rtmr0": [
    "memory, vCPUs, devices or their order, QEMU's version, firmware settings",
    "caisson measure IMAGE --memory SIZE --vcpus N --log EVIDENCE   (verify --save keeps it)",
  ],
  "registers/rtmr1": [
    "another kernel; on TDX memory and QEMU's version too",
    "caisson measure IMAGE --log EVIDENCE   (verify --save keeps it)",
  ],
  "registers/rtmr2": [
    "another command line, so another root file system: another image",
    "caisson inspect EVIDENCE   (verify --save keeps it)",
  ],
};

function renderCheck(check: Check): string {
  const [mark, colour] = check.reason === notReached ? unreached : marks[check.outcome];
  const [causes, command] = (check.code && candidates[check.code]) ?? [];
  const found = check.outcome === "fail" ? [check.reason] : [check.reason, check.actual];
  const first = `  ${styleText(colour, mark)}  ${check.id.padEnd(26)} ${printable(found.filter(Boolean).join("; "))}`;
  const rows =
    check.outcome !== "fail"
      ? []
      : [
          ["code", check.code],
          ["expected", check.expected],
          ["found", check.actual],
          ["source", check.source],
          ...(causes === undefined
            ? []
            : [
                ["may be", causes],
                ["tells", command],
              ]),
        ];
  const details = rows.flatMap(([label, value]) =>
    value ? [`        ${label!.padEnd(9)} ${printable(value)}`] : [],
  );
  return [first.trimEnd(), ...details].join("\n");
}

function platformText(platform: PlatformSummary, emulated: boolean): string {
  if (platform.tee === "snp") {
    return `SEV-SNP on ${platform.product}, reported ${tcbText(platform.tcb.reported)}`;
  }
  if (platform.tee === "nitro") {
    const kind = platform.kind === "tpm" ? "a NitroTPM" : "a Nitro enclave";
    return `${kind} of AWS, ${printable(platform.module)} at ${platform.time}`;
  }
  const advisories = platform.advisories.length === 0 ? "" : ` (${platform.advisories.join(", ")})`;
  return emulated
    ? `emulated, called ${platform.tcbStatus} by a simulated PKI${advisories}`
    : `${platform.tee.toUpperCase()}, ${platform.tcbStatus}${advisories}`;
}

/** The verdict first, then every check; before both, that evidence is emulated. */
export function renderReport({ verdict, scope, at, platform, reference, codes, checks }: Report): string {
  const open = checks.filter(
    ({ outcome, reason }) => outcome === "not-checked" && reason !== notReached,
  ).length;
  const missed = checks.filter(({ reason }) => reason === notReached).length;
  const judged = checks.find(({ id }) => id === "policy/platform")?.actual;
  const emulated = isPlatform(judged) && !provesHardware[judged];
  const terms = termsOf({ checks });
  const head = [
    ...(emulated ? [styleText("yellow", "EMULATED   this evidence proves nothing about hardware")] : []),
    `${styleText(colours[verdict], words[scope][verdict])}   ${question(scope, terms)}`,
    ...(verdict === "undetermined" ? [undetermined(codes, terms)] : []),
    `  judged as of ${at}`,
    ...(platform === undefined
      ? []
      : [
          `  platform ${platformText(platform, emulated)}, under ${printable(platform.root)}, valid until ${platform.validUntil}`,
        ]),
    ...(reference === undefined ? [] : [`  registers match ${printable(reference)}`]),
    ...(codes.length === 0 ? [] : [`  because ${codes.join(", ")}`]),
    `  ${checks.length} checks, ${open} left open${scope === "genuine" ? "" : " by the policy"}${missed === 0 ? "" : `, ${missed} not reached`}`,
  ];
  return `${head.join("\n")}\n\n${checks.map(renderCheck).join("\n")}\n`;
}

/** Every field of a quote, in groups; what takes away all protection first. */
export function renderDescription({ warnings, groups }: Description): string {
  const lines = warnings.map((text) => styleText("red", text));
  for (const [group, fields] of Object.entries(groups)) {
    lines.push(...(lines.length === 0 ? [] : [""]), group);
    for (const [name, value] of Object.entries(fields)) {
      lines.push(`  ${name.padEnd(20)} ${printable(value)}`.trimEnd());
    }
  }
  return `${lines.join("\n")}\n`;
}
