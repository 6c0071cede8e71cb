// SPDX-License-Identifier: Apache-2.0
/**
 * Which Caisson this is: version, the hash over the sources that decide an image's bytes, and the commit where git
 * knows it.
 */
import { type ExecFileSyncOptionsWithStringEncoding, execFileSync } from "node:child_process";
import { sourcesHash } from "@caisson/image/sources";
import ownPackage from "../../../package.json" with { type: "json" };

const repository = new URL("../../../", import.meta.url).pathname;

/** A directory that is not a checkout, or a machine without git, has none. */
function git(...args: string[]): string | undefined {
  try {
    const options: ExecFileSyncOptionsWithStringEncoding = {
      cwd: repository,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
    };
    return execFileSync("git", args, options).trim();
  } catch {
    return undefined;
  }
}

export function ownVersion(): { version: string; sources: string; commit?: string; modified?: boolean } {
  const commit = git("rev-parse", "HEAD");
  const changes = git("status", "--porcelain");
  return {
    version: ownPackage.version,
    sources: sourcesHash(),
    ...(commit !== undefined && changes !== undefined && { commit, modified: changes !== "" }),
  };
}

/** The lines of `--version`; the first is what scripts look for. */
export function versionText(): string {
  const { version, sources, commit, modified } = ownVersion();
  const lines = [`caisson ${version}`, `sources  ${sources}`];
  if (commit !== undefined) lines.push(`commit   ${commit}${modified === true ? ", modified" : ""}`);
  return `${lines.join("\n")}\n`;
}
