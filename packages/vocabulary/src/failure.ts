// SPDX-License-Identifier: Apache-2.0
/**
 * The base of every error that a user can cause. A package has one subclass with a closed union of codes.
 *
 * `code` is stable (`area/reason`), the message says what failed and where, `facts` are labelled values (found,
 * expected), `fix` says what to do, and `kind` decides the exit code. An error of any other class is a bug.
 */

/**
 * "unavailable" is what may work later or elsewhere: a server that cannot be reached, a full disk, a taken port, another
 * process at work. "internal" is our own fault.
 */
export type FailureKind =
  | "rejected"
  | "unsupported"
  | "input"
  | "usage"
  | "unavailable"
  | "interrupted"
  | "internal";
export type Facts = readonly (readonly [label: string, value: string])[];

export interface FailureDetails<Kind extends FailureKind = FailureKind> {
  kind?: Kind;
  facts?: Facts;
  fix?: string;
  cause?: unknown;
}

export abstract class Failure<
  Code extends string = string,
  Kind extends FailureKind = FailureKind,
> extends Error {
  readonly code: Code;
  readonly kind: Kind;
  readonly facts: Facts;
  readonly fix?: string;

  constructor(code: Code, kind: Kind, message: string, details: Omit<FailureDetails, "kind"> = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.kind = kind;
    this.facts = details.facts ?? [];
    if (details.fix !== undefined) this.fix = details.fix;
  }
}

/** What V8, JavaScriptCore and SpiderMonkey say when a text is nested deeper than a parser's own calls can be. */
const noStackLeft = /Maximum call stack size exceeded\.?|too much recursion/;

/** What a thrown value says. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(noStackLeft, "nested too deep to be read");
}
