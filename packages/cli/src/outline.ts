// SPDX-License-Identifier: Apache-2.0
/** Every command with its arguments and options, as the commands themselves declare them: for completion and the manual. */
import type { Command } from "commander";
import type { Commands } from "./edition.ts";

export interface OptionOutline {
  /** As help shows it: "-o, --output <file>". */
  flags: string;
  /** "--output" and "-o", those that there are. */
  names: readonly string[];
  takesValue: boolean;
  /** The values that there are, where there is a list. */
  choices: readonly string[];
  description: string;
}

export interface CommandOutline {
  /** The words that call it: "kms log show"; empty for `caisson` itself. */
  path: string;
  /** One line, for lists. */
  summary: string;
  description: string;
  /** "[options] <image>". */
  usage: string;
  arguments: readonly { name: string; description: string; choices: readonly string[] }[];
  options: readonly OptionOutline[];
  commands: readonly CommandOutline[];
}

/** Loads all commands. */
export async function outlineOf(commands: Commands): Promise<readonly CommandOutline[]> {
  const names = Object.keys(commands).sort();
  return Promise.all(
    names.map(async (name) => {
      const [summary, load] = commands[name]!;
      return outline((await load()).command, name, summary);
    }),
  );
}

/** It and all below it, in the order of the help. */
export function everyCommand(outline: CommandOutline): CommandOutline[] {
  return [outline, ...outline.commands.flatMap(everyCommand)];
}

const help: OptionOutline = {
  flags: "-h, --help",
  names: ["--help", "-h"],
  takesValue: false,
  choices: [],
  description: "what the command does, its arguments and options",
};

function outline(command: Command, path: string, summary = command.summary()): CommandOutline {
  const options = command.options
    .filter(({ hidden }) => !hidden)
    .map(({ flags, long, short, required, optional, argChoices, description }) => ({
      flags,
      names: [long, short].filter((name) => name !== undefined && name !== null),
      takesValue: required || optional,
      choices: argChoices ?? [],
      description,
    }));
  return {
    path,
    summary: summary || command.description(),
    description: command.description(),
    usage: command.usage(),
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      description: argument.description,
      choices: argument.argChoices ?? [],
    })),
    options: [...options, help],
    commands: command.commands.map((inner) => outline(inner, `${path} ${inner.name()}`)),
  };
}
