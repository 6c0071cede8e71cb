// SPDX-License-Identifier: Apache-2.0
/** Tools from PyPI that judge ours from outside: each in an environment of its own, kept in the cache. */
import { type ExecFileSyncOptions, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const cache = new URL("../../.cache/pypi/", import.meta.url).pathname;

/** Installs exact versions (`name==version`) and returns where their programs are. */
export function fromPypi(...packages: string[]): string {
  // The programs name their interpreter by its path: elsewhere it is another environment.
  const name = createHash("sha256")
    .update([cache, ...packages].join("\n"))
    .digest("hex")
    .slice(0, 16);
  const place = join(cache, name);
  const complete = join(place, "complete");
  if (existsSync(complete)) return join(place, "bin");
  const options: ExecFileSyncOptions = { stdio: ["ignore", "ignore", "pipe"], timeout: 300_000 };
  rmSync(place, { recursive: true, force: true });
  mkdirSync(cache, { recursive: true });
  execFileSync("python3", ["-m", "venv", place], options);
  execFileSync(join(place, "bin", "pip"), ["install", "--quiet", ...packages], options);
  writeFileSync(complete, "");
  return join(place, "bin");
}
