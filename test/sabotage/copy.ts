// SPDX-License-Identifier: Apache-2.0
/**
 * A copy of the tree to sabotage, with its dependencies: links among them lead to the copy's own packages, and what is
 * installed meanwhile in the tree itself does not reach it.
 */
import { execFileSync } from "node:child_process";
import { constants, cpSync, existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Files of the working tree, as they are now: tracked ones and new ones that are not ignored. */
function filesOf(repository: string): string[] {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: repository,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(listed.split("\0"))]
    .filter((path) => path !== "" && existsSync(join(repository, path)))
    .sort();
}

/** Makes a copy below the system's directory for temporary files; returns its path. */
export function copyTree(repository: string): string {
  const copy = mkdtempSync(join(tmpdir(), "caisson-sabotage-"));
  for (const path of filesOf(repository)) {
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    cpSync(join(repository, path), join(copy, path), { verbatimSymlinks: true });
  }
  cpSync(join(repository, "node_modules"), join(copy, "node_modules"), {
    recursive: true,
    verbatimSymlinks: true,
    mode: constants.COPYFILE_FICLONE,
  });
  return copy;
}
