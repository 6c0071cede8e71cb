// SPDX-License-Identifier: Apache-2.0
/** `caisson completion SHELL`: what a shell reads to complete commands, options and their values. */
import { Argument, Command } from "commander";
import type { Edition } from "../edition.ts";
import { outlineOf } from "../outline.ts";
import { completionScript, type Shell, shells } from "../views/completion.ts";

export const commandFor = ({ commands }: Edition): Command =>
  new Command("caisson completion")
    .description(
      "Prints what a shell reads to complete commands, options and their values: source <(caisson completion bash); for zsh a file _caisson in $fpath; for fish ~/.config/fish/completions/caisson.fish.",
    )
    .addArgument(new Argument("<shell>", "which one").choices(shells))
    .action(async (shell: Shell) => {
      const inner = await outlineOf(commands);
      const root = {
        path: "",
        summary: "",
        description: "",
        usage: "",
        arguments: [],
        options: [],
        commands: inner,
      };
      process.stdout.write(completionScript(shell, root));
    });
