// SPDX-License-Identifier: Apache-2.0
/** Tools from PyPI and npm that judge ours from outside: each in an environment of its own, kept in the cache. */
import { type ExecFileSyncOptions, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const options: ExecFileSyncOptions = { stdio: ["ignore", "ignore", "pipe"], timeout: 300_000 };

/** The place of these packages in the cache, where `install` put them once. */
function kept(registry: string, packages: readonly string[], install: (place: string) => void): string {
  const cache = new URL(`../../.cache/${registry}/`, import.meta.url).pathname;
  // The programs name their interpreter by its path: elsewhere it is another environment.
  const name = createHash("sha256")
    .update([cache, ...packages].join("\n"))
    .digest("hex")
    .slice(0, 16);
  const place = join(cache, name);
  const complete = join(place, "complete");
  if (existsSync(complete)) return place;
  rmSync(place, { recursive: true, force: true });
  mkdirSync(cache, { recursive: true });
  install(place);
  writeFileSync(complete, "");
  return place;
}

/** Installs exact versions (`name==version`) and returns where their programs are. */
export function fromPypi(...packages: string[]): string {
  const place = kept("pypi", packages, (directory) => {
    execFileSync("python3", ["-m", "venv", directory], options);
    execFileSync(join(directory, "bin", "pip"), ["install", "--quiet", ...packages], options);
  });
  return join(place, "bin");
}

/** Installs exact versions (`name@version`), whose scripts do not run, and returns their node_modules. */
export function fromNpm(...packages: string[]): string {
  const place = kept("npm-tools", packages, (directory) => {
    mkdirSync(directory);
    writeFileSync(join(directory, "package.json"), "{}");
    const flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"];
    execFileSync("npm", ["install", ...flags, ...packages], { ...options, cwd: directory });
  });
  return join(place, "node_modules");
}
