/** How a failure is shown and which exit code it gets. An error of any class but `Failure` is a bug: exit code 1. */
import { Failure, type FailureKind } from "@caisson/vocabulary/failure";
import { CommanderError } from "commander";
import { printable } from "./views/printable.ts";

const exitCodes: Record<FailureKind, number> = {
  rejected: 10,
  unsupported: 20,
  input: 30,
  usage: 2,
  internal: 1,
};

/** A wrong call of the command line. */
export class UsageError extends Failure<"cli/usage", "usage"> {
  override readonly name = "UsageError";
  constructor(message: string, fix: string) {
    super("cli/usage", "usage", message, { fix });
  }
}

/** Commander's own words, which begin with a label that ours replaces. */
const usageMessage = ({ message }: CommanderError): string => message.replace(/^error: /, "");

/** 0 done, 10 rejected, 20 not supported here, 30 malformed input, 2 usage, 1 internal. */
export function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage;
  const kind: FailureKind = error instanceof Failure ? error.kind : "internal";
  return exitCodes[kind];
}

/** The text for a person: what failed, where, found and expected, what to do. Ends with a newline. */
export function renderError(subject: string, error: unknown): string {
  // A group of commands without a command has printed its help already.
  if (error instanceof CommanderError && error.code === "commander.help") return "";
  if (error instanceof CommanderError) {
    return `${subject}: ${usageMessage(error)}\n  try  ${subject} --help\n`;
  }
  if (!(error instanceof Failure)) {
    return `${subject}: internal error\n${error instanceof Error ? error.stack : String(error)}\n`;
  }
  const rows = [...error.facts];
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
  if (!(error instanceof Failure)) return { error: { code: "internal", message: String(error) } };
  const { code, message, facts, fix } = error;
  return {
    error: {
      code,
      message,
      ...(facts.length > 0 && { facts: Object.fromEntries(facts) }),
      ...(fix && { fix }),
    },
  };
}
