/**
 * How a failure is shown and which exit code it gets.
 *
 * Packages do not import this file. Their error classes agree on a shape instead: `code` (stable, from a closed
 * union, `area/reason`), `message` (what failed and where), and optionally `facts` (labelled values: found,
 * expected), `fix` (what to do) and `kind` (which exit code). Errors of any other shape are bugs: exit code 1.
 */
import { CommanderError } from "commander";
import { printable } from "./views/printable.ts";

export type FailureKind = "rejected" | "unsupported" | "input" | "usage" | "internal";

/** What an error of ours carries; every field but `code` and `message` may be missing. */
export interface Failure extends Error {
  code: string;
  kind?: FailureKind;
  facts?: readonly (readonly [label: string, value: string])[];
  fix?: string;
}

const exitCodes: Record<FailureKind, number> = {
  rejected: 10,
  unsupported: 20,
  input: 30,
  usage: 2,
  internal: 1,
};

/** A wrong call of the command line. */
export class UsageError extends Error {
  readonly code = "cli/usage";
  readonly kind = "usage";
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
}

function isFailure(error: unknown): error is Failure {
  return error instanceof Error && "kind" in error && typeof (error as Failure).code === "string";
}

/** Commander's own words, which begin with a label that ours replaces. */
const usageMessage = ({ message }: CommanderError): string => message.replace(/^error: /, "");

/** 0 done, 10 rejected, 20 not supported here, 30 malformed input, 2 usage, 1 internal. */
export function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage;
  return isFailure(error) && error.kind !== undefined ? exitCodes[error.kind] : exitCodes.internal;
}

/** The text for a person: what failed, where, found and expected, what to do. Ends with a newline. */
export function renderError(subject: string, error: unknown): string {
  // A group of commands without a command has printed its help already.
  if (error instanceof CommanderError && error.code === "commander.help") return "";
  if (error instanceof CommanderError) {
    return `${subject}: ${usageMessage(error)}\n  try  ${subject} --help\n`;
  }
  if (!isFailure(error)) {
    return `${subject}: internal error\n${error instanceof Error ? error.stack : String(error)}\n`;
  }
  const rows = [...(error.facts ?? [])];
  if (error.fix !== undefined) rows.push(["try", error.fix]);
  const width = Math.max(0, ...rows.map(([label]) => label.length));
  const body = rows.map(([label, value]) => `  ${label.padEnd(width)}  ${printable(value)}\n`).join("");
  return `${subject}: ${printable(error.message)}   [${error.code}]\n${body}`;
}

/** The same for `--json`: one object, to be printed on stdout. */
export function errorDocument(error: unknown): object {
  if (error instanceof CommanderError) {
    return { error: { code: "cli/usage", message: usageMessage(error) } };
  }
  if (!isFailure(error)) return { error: { code: "internal", message: String(error) } };
  const { code, message, facts, fix } = error;
  return {
    error: { code, message, ...(facts && { facts: Object.fromEntries(facts) }), ...(fix && { fix }) },
  };
}
