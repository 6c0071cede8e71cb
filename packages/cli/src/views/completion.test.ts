// SPDX-License-Identifier: Apache-2.0
/** The script for bash is asked by bash itself, as if somebody had pressed the tabulator. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import type { CommandOutline } from "../outline.ts";
import { completionScript } from "./completion.ts";
import { manualPage } from "./manual.ts";

const caisson = new URL("../main.ts", import.meta.url).pathname;
function printed(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [caisson, ...args], { encoding: "utf8" });
  equal(status, 0, stderr);
  return stdout;
}

/** What bash offers behind these words, of which the last is begun. */
function offered(script: string, ...words: string[]): string[] {
  const ask = `${script}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_caisson
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync("bash", ["--norc", "-c", ask, "bash", ...words], { encoding: "utf8" });
  equal(stderr, "");
  return stdout.split("\n").filter((line) => line !== "");
}

test("bash completes commands, their commands, options and values; elsewhere names of files", () => {
  const script = printed("completion", "bash");
  const rows: [words: string[], wanted: string[]][] = [
    [["caisson", "ver"], ["verify"]],
    [["caisson", "kms", "log", ""], ["show", "verify", "checkpoint"]],
    [["caisson", "build", "--fl"], ["--flavour"]],
    [["caisson", "build", "--flavour", ""], ["production", "development"]],
    [["caisson", "build", "--flavour", "=", "dev"], ["development"]],
    [["caisson", "build", "--flavour", "="], ["production", "development"]],
    [["caisson", "completion", "f"], ["fish"]],
    [["caisson", "verify", "--pol"], ["--policy"]],
    // A file's name: nothing is offered, so that bash offers files.
    [["caisson", "verify", "--policy", ""], []],
    [["caisson", "verify", ""], []],
    // Where an argument has a command's name, it is not one.
    [["caisson", "verify", "kms", "se"], []],
    [["./caisson", "noth"], []],
  ]; // biome-ignore format: rows
  for (const [words, wanted] of rows)
    deepEqual(offered(script, ...words).sort(), wanted.sort(), words.join(" "));
  ok(offered(script, "caisson", "").includes("up"));
});

test("whatever a command says of itself, scripts and manual stay whole", () => {
  const nasty = "it's \"$(touch x)\" `y` \\ %s\n.TH 'z: a|b";
  const leaf: CommandOutline = {
    path: "one two",
    summary: nasty,
    description: nasty,
    usage: "[options]",
    arguments: [{ name: "a", description: nasty, choices: ["it's", "b"] }],
    options: [
      { flags: "-o, --odd <x>", names: ["--odd", "-o"], takesValue: true, choices: [], description: nasty },
    ],
    commands: [],
  };
  const root = { ...leaf, path: "", arguments: [], options: [], commands: [] };
  const tree = { ...root, commands: [{ ...root, path: "one", commands: [leaf] }] };
  const script = completionScript("bash", tree);
  deepEqual(offered(script, "caisson", "one", "two", "-"), ["--odd", "-o"]);
  const page = manualPage(tree.commands, "1.2.3");
  for (const line of page.split("\n")) {
    ok(!line.startsWith("'") && !/^\.(?!TH CAISSON|S[HS] |TP$|B )/.test(line), line);
  }
});

test("the manual has every command, option and exit code", () => {
  const page = printed("manual").replaceAll("\\-", "-");
  for (const wanted of ["caisson kms log show [options]", "--collateral-source ", "-o, --output <file>"]) {
    ok(page.includes(wanted), wanted);
  }
  deepEqual(
    [
      ...page
        .split(".SH EXIT STATUS")[1]!
        .split(".SH ")[0]!
        .matchAll(/^\.B "(\d+)"$/gm),
    ].map(([, code]) => code),
    ["0", "10", "20", "30", "2", "75", "130", "141", "1"],
  );
});
