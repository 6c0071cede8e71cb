// SPDX-License-Identifier: Apache-2.0
/** The audit: every control, judged in every place that is known, and what follows for the subject as a whole. */

import { splitCommandLine } from "@caisson/protocol/command-line";
import { type AppDescription, persistentVolumes } from "@caisson/protocol/guest-config";
import { provesHardware } from "@caisson/vocabulary/platforms";
import type { Acceptance } from "./baseline.ts";
import { catalogue } from "./catalogue/index.ts";
import {
  type AuditOutcome,
  type CheckKind,
  type Control,
  checkKinds,
  type Decision,
  decisions,
  type Facts,
  judge,
} from "./control.ts";
import { AuditError } from "./errors.ts";
import { type Inventory, inventory } from "./inventory.ts";

/** `deviation`: the development flavour, or contained services, may fail it. `accepted`: the baseline accepts it for now. */
export type Status = AuditOutcome | "deviation" | "accepted";

export interface Result {
  kind: CheckKind;
  status: Status;
  /** What did not hold, why nothing was judged, or why a failure is accepted. */
  details: readonly string[];
}

export interface Row {
  control: Control;
  /** One for each kind of facts that were given. */
  results: readonly Result[];
}

export interface Score {
  decision: Decision;
  title: string;
  passed: number;
  failed: number;
  excused: number;
}

export interface Audit {
  kinds: readonly CheckKind[];
  rows: readonly Row[];
  scores: readonly Score[];
  inventory: Inventory;
  /** Ids of required controls that failed somewhere. */
  failedRequired: readonly string[];
  /** Remarks on the baseline: entries that excuse nothing. */
  remarks: readonly string[];
}

/** Whether this subject is (or says that it is) a development one: then declared deviations are not failures. */
const development: { [K in CheckKind]: (facts: Facts[K]) => boolean } = {
  static: ({ flavour }) => flavour === "development",
  live: ({ flavour }) => flavour === "development",
  remote: ({ platform }) => platform !== undefined && !provesHardware[platform],
};

/** Of an image; another system's root describes no application. */
const describedApp = (image: Facts["static"]): AppDescription | undefined =>
  image.kind === "tree" ? undefined : image.guest.app;

/** Who asked for the kernel and the sandbox of contained services: their names, or that there are such. */
const contained: { [K in CheckKind]: (facts: Facts[K]) => string | undefined } = {
  static(image) {
    const services = Object.entries(describedApp(image)?.services ?? {});
    const names = services.filter(([, { isolation }]) => isolation === "contained");
    return names.length === 0 ? undefined : names.map(([name]) => name).join(", ");
  },
  live: ({ commandLine }) =>
    splitCommandLine(commandLine).includes("cgroup_v1_proc=1") ? "contained services" : undefined,
  remote: () => undefined,
};

function containedServices<K extends CheckKind>(kind: K, facts: Partial<Facts>): string | undefined {
  const subject = facts[kind];
  return subject === undefined ? undefined : contained[kind](subject);
}

/** Which persistent volumes were asked for, or that there are some. */
const persistent: { [K in CheckKind]: (facts: Facts[K]) => string | undefined } = {
  static(image) {
    const app = describedApp(image);
    const names = app === undefined ? [] : persistentVolumes(app);
    return names.length === 0 ? undefined : `persistent volumes ${names.join(", ")}`;
  },
  live: ({ mounts }) => (mounts.some(({ type }) => type === "btrfs") ? "persistent volumes" : undefined),
  remote: () => undefined,
};

function persistentVolumesOf<K extends CheckKind>(kind: K, facts: Partial<Facts>): string | undefined {
  const subject = facts[kind];
  return subject === undefined ? undefined : persistent[kind](subject);
}

function isDevelopment<K extends CheckKind>(kind: K, facts: Partial<Facts>): boolean {
  const subject = facts[kind];
  return subject !== undefined && development[kind](subject);
}

/** Throws AuditError `audit/subject` when the guest was not started from the image: they would vouch for each other. */
function checkSameImage({ static: image, live }: Partial<Facts>): void {
  if (image === undefined || live === undefined) return;
  if (image.kind === "tree") {
    throw new AuditError("audit/subject", "a root file system tree and a guest are two subjects", {
      fix: "audit each by itself",
    });
  }
  if (image.commandLine.join(" ") !== splitCommandLine(live.commandLine).join(" ")) {
    throw new AuditError("audit/subject", "this guest does not run this image: their command lines differ", {
      facts: [
        ["image", rootHashOf(image.commandLine)],
        ["guest", rootHashOf(splitCommandLine(live.commandLine))],
      ],
      fix: "audit the image that the guest was started from",
    });
  }
}

const rootHashOf = (line: readonly string[]): string =>
  / sha256 ([0-9a-f]{64}) /.exec(line.join(" "))?.[1] ?? "no root hash";

/**
 * Judges every control on what is known. `now` decides which acceptances have expired. Pure. Throws AuditError
 * `audit/subject` when image and guest do not belong together.
 */
export function audit(facts: Partial<Facts>, acceptances: readonly Acceptance[], now: Date): Audit {
  checkSameImage(facts);
  const kinds = checkKinds.filter((kind) => facts[kind] !== undefined);
  const used = new Set<Acceptance>();

  const result = (control: Control, kind: CheckKind): Result => {
    const { outcome, details } = judge(control, kind, facts[kind] as never);
    if (outcome !== "fail") return { kind, status: outcome, details };
    const deviation = control.development;
    if (deviation?.kinds.includes(kind) && isDevelopment(kind, facts)) {
      return { kind, status: "deviation", details: [`development: ${deviation.reason}`, ...details] };
    }
    const asked = control.services?.kinds.includes(kind) ? containedServices(kind, facts) : undefined;
    if (asked !== undefined) {
      return { kind, status: "deviation", details: [`${asked}: ${control.services!.reason}`, ...details] };
    }
    const kept = control.volumes?.kinds.includes(kind) ? persistentVolumesOf(kind, facts) : undefined;
    if (kept !== undefined) {
      return { kind, status: "deviation", details: [`${kept}: ${control.volumes!.reason}`, ...details] };
    }
    const acceptance = acceptances.find((one) => one.control === control.id && (one.kind ?? kind) === kind);
    if (acceptance === undefined) return { kind, status: "fail", details };
    used.add(acceptance);
    const until = `accepted until ${acceptance.expires}: ${acceptance.reason}`;
    return now < new Date(`${acceptance.expires}T23:59:59Z`)
      ? { kind, status: "accepted", details: [until, ...details] }
      : { kind, status: "fail", details: [`was ${until}`, ...details] };
  };

  const rows = catalogue.map((control) => ({ control, results: kinds.map((kind) => result(control, kind)) }));
  return {
    kinds,
    rows,
    scores: scores(rows),
    inventory: inventory(facts),
    failedRequired: rows
      .filter(
        ({ control, results }) =>
          control.severity === "required" && results.some(({ status }) => status === "fail"),
      )
      .map(({ control }) => control.id),
    remarks: acceptances
      .filter((one) => !used.has(one))
      .map(({ control }) => `the baseline accepts ${control}, which does not fail here`),
  };
}

/** How many checks of each decision's controls passed, failed, or failed with an excuse. */
function scores(rows: readonly Row[]): Score[] {
  return (Object.keys(decisions) as Decision[]).map((decision) => {
    const statuses = rows
      .filter(({ control }) => control.decision === decision)
      .flatMap(({ results }) => results.map(({ status }) => status));
    const count = (...wanted: Status[]) => statuses.filter((status) => wanted.includes(status)).length;
    return {
      decision,
      title: decisions[decision],
      passed: count("pass"),
      failed: count("fail"),
      excused: count("deviation", "accepted"),
    };
  });
}
