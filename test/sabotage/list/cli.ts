// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const cli = within("packages/cli/src", [
  [
    "anybody may write who a KMS's first operators are",
    "kms/serve.ts",
    "if (development) return readTextFile(path);",
    "if (path !== '') return readTextFile(path);",
    "/test/integration/kms.test.ts",
  ],
  ["rejected evidence ends with 0", "exit-codes.ts", "  rejected: 10,", "  rejected: 0,", "failure.test.ts"],
  ["malformed input ends as a rejection", "exit-codes.ts", "  input: 30,", "  input: 10,", "failure.test.ts"],
  [
    "what others wrote moves the terminal's cursor",
    "failure.ts",
    "${subject}: ${printable(error.message)}",
    "${subject}: ${error.message}",
    "failure.test.ts",
  ],
  [
    "a command line that is not ASCII is predicted",
    "loose-files.ts",
    "!/^[ -~]*$/.test(commandLine!),",
    "false,",
    "loose-files.test.ts",
  ],
  [
    "a kernel without its command line is predicted",
    "loose-files.ts",
    'refuse(commandLine === undefined, "--kernel needs its command line", fix);',
    "",
    "loose-files.test.ts",
  ],
  [
    "a guest's note moves the terminal's cursor",
    "views/boot-view.ts",
    'printable(event.text), "yellow")',
    'event.text, "yellow")',
    "views/boot-view.test.ts",
  ],
  [
    "the clock is set without the time that has passed",
    "set-clock.ts",
    "(earliest + latest) / 2 + (monotonic() - at);",
    "(earliest + latest) / 2;",
    "set-clock.test.ts",
  ],
  [
    "an application that fails after its boot is a success",
    "boot-watch.ts",
    "if (over.status !== 0) throw new ApplicationError(over);",
    "",
    "boot-watch.test.ts",
  ],
  [
    "a machine that ends before it is ready was ready",
    "boot-watch.ts",
    'if (ready?.kind !== "ready") throw',
    'if (ready?.kind === "app") throw',
    "boot-watch.test.ts",
  ],
  [
    "what is signed can hide behind spaces that a terminal breaks",
    "views/request-view.ts",
    "begin = marks.on)",
    "begin = mark)",
    "views/request-view.test.ts",
  ],
]);
