// SPDX-License-Identifier: Apache-2.0
/**
 * The `caisson` command, for a table of commands. Each is a file under `commands/` that exports `command`, a commander
 * `Command`; only the one that is asked for is loaded, so that a new command costs the others no start-up time.
 */
import type { Command } from "commander";
import type { Commands, Edition } from "./edition.ts";
import { errorDocument, exitCode, renderError, UsageError } from "./failure.ts";
import { guardOutput } from "./output.ts";
import { suggest } from "./suggest.ts";
import { jsonText } from "./views/answer.ts";
import { fold } from "./views/fold.ts";

function helpText({ commands, help }: Edition): string {
  const names = Object.keys(commands).sort();
  const width = Math.max(...names.map((name) => name.length));
  const rows = names.map((name) => `  ${name.padEnd(width)}  ${commands[name]![0]}`);
  return `Usage: caisson COMMAND [options]   (caisson COMMAND --help for its options)\n\n${rows.join("\n")}\n\n${fold(help, 80)}\n`;
}

async function main(edition: Edition, argv: string[]): Promise<void> {
  const { commands } = edition;
  const [name, ...rest] = argv;
  if (name === "--version" || name === "-V") {
    process.stdout.write(await edition.version(rest.includes("--json")));
    return;
  }
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(helpText(edition));
    if (name === undefined) process.exitCode = 2;
    return;
  }
  const entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (entry === undefined) {
    const near = suggest(name, Object.keys(commands));
    const hint = near === undefined ? "" : `did you mean '${near}'? `;
    throw new UsageError(
      `there is no command '${name}'`,
      `${hint}caisson --help lists them${edition.others ?? ""}`,
    );
  }
  const { command } = await entry[1]();
  throwErrors(command);
  await command.parseAsync(rest, { from: "user" });
}

/** What one line of a list says, as the text of the command's own page. */
const sentence = (text: string): string =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;

/** Wrong usage becomes an exception, of subcommands too: commander passes settings on only to those it makes itself. */
function throwErrors(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => {} });
  // Also what stands beside a long name is broken, instead of by the terminal.
  command.configureHelp({ minWidthToWrap: 20, commandDescription: (named) => sentence(named.description()) });
  for (const subcommand of command.commands) throwErrors(subcommand);
}

/** Whether anything has been written to stdout since. */
function watchStdout(): () => boolean {
  const { stdout } = process;
  const write = stdout.write.bind(stdout) as (...values: unknown[]) => boolean;
  let written = false;
  stdout.write = (...values: unknown[]) => {
    written = true;
    return write(...values);
  };
  return () => written;
}

/** An edition's commands, and those that are about them. */
function withOwn(edition: Edition): Edition {
  const commands: Commands = {
    ...edition.commands,
    completion: [
      "print what bash, zsh or fish reads to complete a line",
      async () => ({ command: (await import("./commands/completion.ts")).commandFor(whole) }),
    ],
    manual: [
      "print the manual page",
      async () => ({ command: (await import("./commands/manual.ts")).commandFor(whole) }),
    ],
  };
  const whole = { ...edition, commands };
  return whole;
}

/** Runs the command that `argv` names. Failures are printed, and decide the process's exit code. */
export async function run(edition: Edition, argv: string[]): Promise<void> {
  const subject = `caisson ${argv[0] ?? ""}`.trimEnd();
  const hasPrinted = watchStdout();
  const outputFailed = guardOutput(subject);
  try {
    await main(withOwn(edition), argv);
  } catch (error) {
    const code = exitCode(error);
    if (code !== 0 && !outputFailed()) process.stderr.write(renderError(subject, error));
    // A command that fails after its document has said why in it; a second one would spoil the first.
    if (code !== 0 && argv.includes("--json") && !hasPrinted() && !outputFailed()) {
      process.stdout.write(jsonText(errorDocument(error)));
    }
    process.exitCode = code;
  }
}
