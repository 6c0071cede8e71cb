// SPDX-License-Identifier: Apache-2.0
/**
 * What a control is, and how it is judged.
 *
 * A control is checked in up to three places: statically (the image), live (the running guest's word), remotely
 * (what verified evidence proves). A check is a list of tests, each of which expects one thing; it passes when all do.
 *
 * Invariant: every test carries its own counterexample, a change of the facts that it must notice. The matrix in
 * `catalogue.test.ts` applies each one; a test that cannot fail does not get in.
 */
import type { ImageFacts, LiveFacts, RemoteFacts } from "./facts.ts";

export interface Facts {
  static: ImageFacts;
  live: LiveFacts;
  remote: RemoteFacts;
}
export type CheckKind = keyof Facts;
export const checkKinds = ["static", "live", "remote"] as const;

/** Says that a test has nothing to judge here, and why. */
export class NotApplicable {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Thrown by a part of the facts that its subject does not have: whoever asks for it has nothing to judge, and why. */
export class MissingPart extends Error {}

export interface Test<F> {
  /** What must hold, for people: "CONFIG_MODULES is not set". */
  expects: string;
  /** Undefined when it holds; otherwise what was found instead. */
  judge(facts: F): string | NotApplicable | undefined;
  /** Changes a copy of good facts so that `judge` must refuse them. */
  break(copy: F): void;
}

/** Tests, or the reason why there is no check of this kind. */
export type ControlCheck<F> = readonly Test<F>[] | string;

export const groups = [
  "command line",
  "kernel attack surface",
  "kernel self-protection",
  "randomness",
  "time",
  "firmware",
  "devices",
  "file system",
  "user space",
  "network",
  "container",
  "key release",
  "attestation",
] as const;
export type ControlGroup = (typeof groups)[number];

/** The five decisions of docs/decisions/0001 to 0005, and the principles that the other controls serve. */
export const decisions = {
  D1: "kernel by capability",
  D2: "TDVF as firmware",
  D3: "in-tree TDX driver",
  D4: "randomness that the host cannot steer",
  D5: "authenticated time before keys",
  least: "least privilege",
  depth: "defence in depth",
  remote: "verifiable remotely",
  dependencies: "controlled dependencies",
} as const;
export type Decision = keyof typeof decisions;

export interface Control {
  id: string;
  group: ControlGroup;
  decision: Decision;
  severity: "required" | "recommended";
  title: string;
  /** One line. */
  why: string;
  /** Where it comes from: a name of `sources`. */
  source: Source;
  static: ControlCheck<ImageFacts>;
  live: ControlCheck<LiveFacts>;
  remote: ControlCheck<RemoteFacts>;
  /** Where the development flavour may fail it, and why. */
  development?: { reason: string; kinds: readonly CheckKind[] };
  /** Where an image whose services are contained may fail it, and why. */
  services?: { reason: string; kinds: readonly CheckKind[] };
  /** Where an image with persistent volumes may fail it, and why. */
  volumes?: { reason: string; kinds: readonly CheckKind[] };
  /** Tests of this repository that show the behaviour behind it. */
  tests?: readonly string[];
}

/** Why an image with persistent volumes has what only contained services use: decision 0018. */
export const kernelOfServices =
  "their kernel is the one of contained services, whether the image has some or not (decision 0018)";

/** Where a control comes from; no text was copied. */
export const sources = {
  intel: "Intel, guest hardening documents for confidential computing (ccc-linux-guest-hardening-docs)",
  linux: "Linux kernel documentation and source",
  kspp: "Kernel Self Protection Project; kernel-hardening-checker",
  dstack: "dstack's source, issues and decision document",
  zksecurity: "zkSecurity's audit of dstack",
  badaml: "BadAML (CCS 2025) and its mitigations",
  edk2: "edk2 source",
  systemd: "systemd documentation",
  nts: "RFC 8915 and chrony's documentation",
  oci: "NIST SP 800-190 and the OCI runtime specification",
  design: "this design",
} as const;
export type Source = keyof typeof sources;

export type AuditOutcome = "pass" | "fail" | "not-applicable";

export interface Finding {
  outcome: AuditOutcome;
  /** Expectations that did not hold and what was found; or why nothing was judged. */
  details: readonly string[];
}

/** Judges one control on facts of one kind. */
export function judge<K extends CheckKind>(control: Control, kind: K, facts: Facts[K]): Finding {
  const check = control[kind] as ControlCheck<Facts[K]>;
  if (typeof check === "string") return { outcome: "not-applicable", details: [check] };
  const failed: string[] = [];
  const skipped: string[] = [];
  for (const test of check) {
    const found = ask(test, facts);
    if (found instanceof NotApplicable) skipped.push(found.reason);
    else if (found !== undefined) failed.push(`expected: ${test.expects}; found: ${found}`);
  }
  if (failed.length > 0) return { outcome: "fail", details: failed };
  if (skipped.length === check.length) return { outcome: "not-applicable", details: [...new Set(skipped)] };
  return { outcome: "pass", details: [...new Set(skipped)] };
}

function ask<F>(test: Test<F>, facts: F): ReturnType<Test<F>["judge"]> {
  try {
    return test.judge(facts);
  } catch (error) {
    if (error instanceof MissingPart) return new NotApplicable(error.message);
    throw error;
  }
}
