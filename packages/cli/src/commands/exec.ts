// SPDX-License-Identifier: Apache-2.0
/** `caisson exec SPEC SERVICE COMMAND`: a program beside a service of a development machine that `up` started here. */
import { Command } from "commander";
import { developmentMachine } from "../development-machine.ts";
import { UsageError } from "../failure.ts";

/** As people end options for `kubectl exec` and others; nothing after the spec is an option here. */
const withoutDashes = (words: readonly string[]): string[] => words.slice(words[0] === "--" ? 1 : 0);

/** Whom the words after a spec name: with several services the first is the service's name. */
export function split(words: readonly string[], services: readonly string[]): [string, string[]] {
  const first = withoutDashes(words);
  const named = services.length > 1 || first[0] === services[0];
  const [service = "", ...rest] = named ? first : [services[0]!, ...first];
  const command = withoutDashes(rest);
  if (!services.includes(service)) {
    throw new UsageError(`there is no service '${service}'`, `one of ${services.join(", ")}, then a command`);
  }
  return [service, command];
}

export const command = new Command("caisson exec")
  .description(
    "Runs a command beside a service of a development machine, as its user and within its limits. Its status is the command's. Production images have no such thing.",
  )
  .argument("<spec>", "a caisson.yaml, or the directory that has one")
  .argument("<words...>", "the service, where there are several, and the command with its arguments")
  .passThroughOptions()
  .action(async (path: string, words: string[]) => {
    const { services, ask } = await developmentMachine(path);
    const [service, args] = split(words, services);
    if (args.length === 0)
      throw new UsageError("there is no command to run", "caisson exec SPEC SERVICE COMMAND");
    try {
      process.exitCode = await ask({ service, arguments: args }, process);
    } finally {
      process.stdin.destroy();
    }
  });
