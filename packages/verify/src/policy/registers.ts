// SPDX-License-Identifier: Apache-2.0
/**
 * The quote's registers against one reference tuple as a whole; never one register from here and one from there.
 */
import { toHex } from "@caisson/vocabulary/bytes";
import type { Platform } from "@caisson/vocabulary/platforms";
import type { TdReport } from "../intel/quote.ts";
import type { Answers } from "../report.ts";
import { compareEvents, type EventComparison } from "./boot-log.ts";
import type { Policy } from "./policy.ts";
import { imageRegisters, type Reference, type ReferenceRegister, referenceRegisters } from "./reference.ts";

/** What is compared: the quote's registers (hex), and the events that a log proves to make up RTMR0. */
interface Found {
  values: Readonly<Record<ReferenceRegister, string>>;
  rtmr0Events: readonly string[] | undefined;
  /** Registers that the policy compares. */
  wanted: readonly ReferenceRegister[];
  byEvent: boolean;
}

/** `rtmr0Events` as `checkBootLog` returns them. */
export function checkRegisters(
  td: TdReport,
  rtmr0Events: readonly string[] | undefined,
  platform: Platform,
  policy: Policy,
  references: readonly Reference[],
  answers: Answers,
): void {
  const values = {
    mrtd: toHex(td.mrTd),
    rtmr0: toHex(td.rtmrs[0]),
    rtmr1: toHex(td.rtmrs[1]),
    rtmr2: toHex(td.rtmrs[2]),
  };
  const wanted = comparedRegisters(policy);
  for (const register of referenceRegisters.filter((name) => !wanted.includes(name))) {
    if (byRelease(policy, register)) continue;
    answers.notChecked(`registers/${register}`, `the policy leaves registers.${register} open`, {
      actual: values[register],
    });
  }
  if (wanted.length === 0) {
    answers.notChecked("registers/reference", "the policy compares no register with a reference");
    return;
  }
  const found: Found = { values, rtmr0Events, wanted, byEvent: comparesEvents(policy) };

  const candidates = referencesFor(platform, policy, references);
  const covering = coveringReferences(platform, policy, references);
  const score = (candidate: Reference) => wanted.filter((name) => matches(candidate, name, found)).length;
  // The one that is nearest: what a person wants to see compared when none matches.
  const nearest = covering.reduce<Reference | undefined>(
    (best, candidate) => (best === undefined || score(candidate) > score(best) ? candidate : best),
    undefined,
  );
  if (nearest === undefined) {
    const code = candidates.length === 0 ? "registers/no-reference" : "registers/not-covered";
    const events = found.byEvent ? " (or rtmr0Events)" : "";
    answers.fail(code, {
      expected: `a reference with ${wanted.join(", ")}${events}, or registers.NAME: "any"`,
      actual: candidates.map(contents).join("; ") || "none",
    });
    return;
  }
  for (const name of wanted) answer(nearest, name, found, answers);
  if (score(nearest) === wanted.length) answers.pass("registers/reference", { actual: nearest.name });
  else {
    answers.fail("registers/no-match", {
      expected: `one of ${covering.length} references`,
      actual: nearest.name,
    });
  }
}

const comparesEvents = ({ registers }: Policy): boolean => registers?.rtmr0 === "by-event";

/** Whether the application's releases say what a register is, rather than references. */
const byRelease = ({ app }: Policy, name: ReferenceRegister): boolean =>
  app?.identity !== undefined && (imageRegisters as readonly string[]).includes(name);

/** The registers that a policy neither leaves open nor to the application's releases. */
export function comparedRegisters(policy: Policy): ReferenceRegister[] {
  return referenceRegisters.filter((name) => policy.registers?.[name] !== "any" && !byRelease(policy, name));
}

/** The policy's own references and the others, as far as they are for this platform. */
function referencesFor(platform: Platform, policy: Policy, references: readonly Reference[]): Reference[] {
  const own = (policy.references ?? []).map(
    ({ name, rtmr0Events: events, ...registers }, i): Reference => ({
      name: name ?? `policy/references[${i}]`,
      registers,
      ...(events === undefined ? {} : { rtmr0Events: events }),
    }),
  );
  return [...own, ...references].filter(
    (candidate) => candidate.platform === undefined || candidate.platform === platform,
  );
}

/** Those of them that say something of every register that the policy compares: one of these must match. */
export function coveringReferences(
  platform: Platform,
  policy: Policy,
  references: readonly Reference[],
): Reference[] {
  const wanted = comparedRegisters(policy);
  const byEvent = comparesEvents(policy);
  return referencesFor(platform, policy, references).filter(({ registers, rtmr0Events }) =>
    wanted.every(
      (name) => registers[name] !== undefined || (byEvent && name === "rtmr0" && rtmr0Events !== undefined),
    ),
  );
}

const contents = ({ name, registers, rtmr0Events }: Reference): string =>
  `${name} (${[...Object.keys(registers), ...(rtmr0Events === undefined ? [] : ["rtmr0Events"])].join(", ")})`;

function matches(reference: Reference, name: ReferenceRegister, found: Found): boolean {
  if (reference.registers[name] === found.values[name]) return true;
  const events = comparedEvents(reference, name, found);
  return events !== undefined && events.difference === undefined;
}

/** RTMR0's events against the reference's; undefined where they are not compared, or either side has none. */
function comparedEvents(
  { rtmr0Events: wanted }: Reference,
  name: ReferenceRegister,
  { rtmr0Events, byEvent }: Found,
): EventComparison | undefined {
  if (!byEvent || name !== "rtmr0" || wanted === undefined || rtmr0Events === undefined) return undefined;
  return compareEvents(rtmr0Events, wanted);
}

function answer(reference: Reference, name: ReferenceRegister, found: Found, answers: Answers): void {
  const expected = reference.registers[name];
  const actual = found.values[name];
  const events = expected === actual ? undefined : comparedEvents(reference, name, found);
  if (expected === actual) answers.pass(`registers/${name}`, { expected: actual, actual });
  else if (events !== undefined && events.difference === undefined) {
    const smbios = events.host.map((digest) => `; the host's own: SMBIOS ${digest}`).join("");
    answers.pass("registers/rtmr0", { actual: `every event but what names the processor${smbios}` });
  } else if (events !== undefined) {
    answers.fail("registers/rtmr0", { ...events.difference!, source: reference.name });
  } else if (expected !== undefined) {
    answers.fail(`registers/${name}`, { expected, actual, source: reference.name });
  } else {
    answers.fail("registers/rtmr0-log", {
      expected: "a boot log that replays to RTMR0, which the policy compares by event",
      actual,
    });
  }
}
