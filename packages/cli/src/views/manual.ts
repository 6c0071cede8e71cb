// SPDX-License-Identifier: Apache-2.0
/** The manual page (section 1) as roff, with the macros of man(7). */
import { exitStatuses } from "../exit-codes.ts";
import { type CommandOutline, everyCommand } from "../outline.ts";

/** Text as roff prints it: a backslash, hyphens that can be copied, and no request at the beginning of a line. */
const text = (value: string): string =>
  value
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/\s*\n\s*/g, " ")
    .replace(/^(?=[.'])/, "\\&");
/** An argument of a macro. */
const argument = (value: string): string => `"${text(value).replaceAll('"', "\\(dq")}"`;
const bold = (value: string): string => `.B ${argument(value)}`;
const tagged = (tag: string, value: string): string[] => [".TP", bold(tag), text(value)];

const environment: readonly (readonly [name: string, meaning: string])[] = [
  ["CAISSON_CACHE", "where downloads, kernels and toolchains are kept; else $XDG_CACHE_HOME/caisson, else ~/.cache/caisson"],
  ["CAISSON_YES", "1 lets the launcher install missing Debian packages unasked, 0 never"],
  ["CAISSON_REGISTRY_MIRRORS", "registries to ask first: docker.io=mirror.example/prefix,..."],
  ["DOCKER_CONFIG, REGISTRY_AUTH_FILE", "credentials of registries, as docker login and podman login leave them"],
  ["NO_COLOR", "no colours, whatever its value"],
  ["TMPDIR", "where temporary files go"],
]; // biome-ignore format: rows

function commandSection(command: CommandOutline): string[] {
  return [
    `.SS ${argument(`caisson ${command.path} ${command.usage}`)}`,
    text(command.description || command.summary),
    ...command.arguments.flatMap(({ name, description, choices }) =>
      tagged(name, [description, ...(choices.length > 0 ? [`(${choices.join(", ")})`] : [])].join(" ")),
    ),
    ...command.options.flatMap(({ flags, description, choices }) =>
      tagged(flags, choices.length > 0 ? `${description} (${choices.join(", ")})` : description),
    ),
  ];
}

/** The page. `commands` are those of `caisson`. */
export function manualPage(commands: readonly CommandOutline[], version: string): string {
  const lines = [
    `.TH CAISSON 1 "" ${argument(`caisson ${version}`)} "User Commands"`,
    ".SH NAME",
    "caisson \\- hardened, measured and attested images for confidential virtual machines",
    ".SH SYNOPSIS",
    bold("caisson"),
    text("COMMAND [options]"),
    ".SH DESCRIPTION",
    text(
      "Builds an image of an application, predicts what a machine measures that boots it, starts that machine, and judges evidence of it. Every command prints its help with --help.",
    ),
    ...commands.flatMap(({ path, summary }) => tagged(path, summary)),
    ".SH COMMANDS",
    ...commands.flatMap(everyCommand).flatMap(commandSection),
    ".SH EXIT STATUS",
    ...exitStatuses.flatMap(([code, meaning]) => tagged(String(code), meaning)),
    ".SH ENVIRONMENT",
    ...environment.flatMap(([name, meaning]) => tagged(name, meaning)),
    ".SH SEE ALSO",
    text("The documents in docs/ of the repository; docs/README.md lists them."),
  ];
  return `${lines.join("\n")}\n`;
}
