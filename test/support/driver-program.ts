// SPDX-License-Identifier: Apache-2.0
/**
 * A file of the emulation driver (kernel/driver) as a program: compiled with the pinned toolchain, the address and
 * undefined-behaviour sanitizers, and a harness that stands in for the kernel. `NAME-harness.h` is included before
 * everything else; the headers of the kernel that the driver names are empty files.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "@caisson/image/toolchain";
import { toolchain } from "./toolchain.ts";

const repository = new URL("../../", import.meta.url).pathname;

/** Builds `name`.c of the driver in the directory `place`; the function runs it over an input and returns what it printed. */
export async function driverProgram(
  name: string,
  place: string,
): Promise<(input: Uint8Array | string) => Promise<string[]>> {
  const driver = join(repository, "kernel/driver");
  const named: string[] = [];
  for (const file of [`${name}.c`, "emulation.h"]) {
    const text = await readFile(join(driver, file), "utf8");
    named.push(...[...text.matchAll(/^#include <(.*)>$/gm)].map(([, header]) => header!));
    await writeFile(join(place, file), text);
  }
  for (const header of named) {
    await mkdir(dirname(join(place, "kernel", header)), { recursive: true });
    await writeFile(join(place, "kernel", header), "");
  }
  for (const file of ["driver-kernel.h", `${name}-harness.h`, `${name}-harness.c`]) {
    await copyFile(new URL(file, import.meta.url), join(place, file));
  }
  const flags =
    "-std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-deprecated-declarations -Wno-sign-compare -Wno-unused-parameter";
  const sanitizers = "-fsanitize=address,undefined -fno-sanitize-recover=all";
  const includes = `-include ${name}-harness.h -I. -Ikernel`;
  const files = `${name}.c ${name}-harness.c -lcrypto -o program`;
  const binds = { "/scratch": place };
  const command = ["gcc", ...`${flags} ${sanitizers} ${includes} ${files}`.split(" ")];
  await run(toolchain, command, { binds, cwd: "/scratch" });
  return async (input) => {
    writeFileSync(join(place, "input"), input);
    await run(toolchain, ["sh", "-c", "./program <input >output 2>messages"], { binds, cwd: "/scratch" });
    return readFileSync(join(place, "output"), "utf8").trimEnd().split("\n");
  };
}
