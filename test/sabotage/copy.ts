/**
 * A copy of the tree to sabotage. Dependencies are linked, not copied; the workspaces among them lead to the copy's own
 * packages, because Node follows links to where a file really is.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Files of the working tree, as they are now: tracked ones and new ones that are not ignored. */
export function filesOf(repository: string): string[] {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: repository,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(listed.split("\0"))]
    .filter((path) => path !== "" && existsSync(join(repository, path)))
    .sort();
}

/** What a result depends on: hash (hex) of every file but the lists of sabotages and the table of their results. */
export function treeHash(repository: string): string {
  const sum = createHash("sha256");
  for (const path of filesOf(repository)) {
    if (path.startsWith("test/sabotage/") || path === "docs/sabotage.md") continue;
    sum
      .update(`${path}\0`)
      .update(readFileSync(join(repository, path)))
      .update("\0");
  }
  return sum.digest("hex");
}

/** Makes a copy below the system's directory for temporary files; returns its path. */
export function copyTree(repository: string): string {
  const copy = mkdtempSync(join(tmpdir(), "caisson-sabotage-"));
  for (const path of filesOf(repository)) {
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    cpSync(join(repository, path), join(copy, path), { verbatimSymlinks: true });
  }
  const [from, to] = [join(repository, "node_modules"), join(copy, "node_modules")];
  mkdirSync(join(to, "@caisson"), { recursive: true });
  for (const name of readdirSync(from))
    if (name !== "@caisson") symlinkSync(join(from, name), join(to, name));
  for (const name of readdirSync(join(copy, "packages")))
    symlinkSync(join("../../packages", name), join(to, "@caisson", name));
  return copy;
}
