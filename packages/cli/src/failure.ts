// SPDX-License-Identifier: Apache-2.0
/** How a failure is shown and which exit code it gets. An error of any class but `Failure` is a bug: exit code 1. */
import { Failure, type FailureKind } from "@caisson/vocabulary/failure";
import { systemError } from "@caisson/vocabulary/system-error";
import { CommanderError } from "commander";
import { exitCodes } from "./exit-codes.ts";
import { printable } from "./views/printable.ts";

/** A wrong call of the command line. */
export class UsageError extends Failure<"cli/usage", "usage"> {
  override readonly name = "UsageError";
  constructor(message: string, fix: string) {
    super("cli/usage", "usage", message, { fix });
  }
}

/** Somebody pressed Ctrl-C, or asked the process to end. */
export class Interrupted extends Failure<"cli/interrupted", "interrupted"> {
  override readonly name = "Interrupted";
  constructor(signal: NodeJS.Signals, fix?: string) {
    super("cli/interrupted", "interrupted", `stopped by ${signal}`, fix === undefined ? {} : { fix });
  }
}

/** An error of the system is one with words; the rest of what is not ours is a bug. */
const named = (error: unknown): unknown => (error instanceof Failure ? error : (systemError(error) ?? error));

/** Commander's own words, which begin with a label that ours replaces. */
const usageMessage = ({ message }: CommanderError): string =>
  message
    .replace(/^error: /, "")
    .replaceAll("\n", " ")
    .replace(/ is invalid\. (?=[a-z])/, " is invalid: ");

/** The exit code for a failure (exit-codes.ts). */
export function exitCode(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : exitCodes.usage;
  const error = named(thrown);
  const kind: FailureKind = error instanceof Failure ? error.kind : "internal";
  return exitCodes[kind];
}

/** The text for a person: what failed, where, found and expected, what to do. Ends with a newline. */
export function renderError(subject: string, thrown: unknown): string {
  // A group of commands without a command has printed its help already.
  if (thrown instanceof CommanderError && thrown.code === "commander.help") return "";
  if (thrown instanceof CommanderError) {
    return `${subject}: ${usageMessage(thrown)}\n  try  ${subject} --help\n`;
  }
  const error = named(thrown);
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
export function errorDocument(thrown: unknown): object {
  if (thrown instanceof CommanderError) {
    return { error: { code: "cli/usage", message: usageMessage(thrown) } };
  }
  const error = named(thrown);
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
