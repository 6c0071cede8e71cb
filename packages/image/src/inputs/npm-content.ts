// SPDX-License-Identifier: Apache-2.0
/**
 * The content of the npm packages that enter an image, or make what enters it. npm checks a package's integrity when it
 * downloads it, and never again: what lies in `node_modules` could have been altered since. So each build compares it
 * with `npm-content.json`, the digest of what the tarballs contain whose integrity `package-lock.json` names. That the
 * two belong together is shown by a test, which reads the tarballs again (`npm-tarball.ts`).
 */
import { createHash, hash } from "node:crypto";
import { createReadStream, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ImageError } from "../errors.ts";
import { lockedAt } from "./npm.ts";
import record from "./npm-content.json" with { type: "json" };

const repository = new URL("../../../../", import.meta.url).pathname;

/** Larger files are streamed. */
const smallFile = 1 << 22;

/** SHA-256 of a file, hex. */
export async function hashFile(path: string): Promise<string> {
  if (statSync(path).size <= smallFile) return hash("sha256", readFileSync(path));
  const sum = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) sum.update(chunk as Buffer);
  return sum.digest("hex");
}

/** SHA-256, hex, of a package's files: their paths below it, and the SHA-256 (hex) of each. Modes are npm's choice. */
export function contentDigest(files: ReadonlyMap<string, string>): string {
  const sorted = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(sorted)).digest("hex");
}

/** The files of an installed package with the SHA-256 of each, whatever lies in it: a package inside it would be preferred. */
async function readInstalled(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const visit = async (below: string): Promise<void> => {
    for (const entry of readdirSync(join(directory, below), { withFileTypes: true })) {
      const path = below === "" ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) files.set(path, await hashFile(join(directory, path)));
      else files.set(path, "neither a file nor a directory");
    }
  };
  await visit("");
  return files;
}

/**
 * Refuses the package at `place` ("node_modules/zod") below `root`, a directory with a package-lock.json, when it is not
 * what that names. Returns its files with the SHA-256 of each. Throws ImageError `npm/altered`, `npm/unknown`, `lock/npm`.
 */
export async function checkInstalled(place: string, root = repository): Promise<Map<string, string>> {
  const { name, version, integrity } = await lockedAt(join(root, "package-lock.json"), place);
  const known = (record as Record<string, { integrity: string; content: string }>)[`${name} ${version}`];
  if (known === undefined || known.integrity !== integrity) {
    throw new ImageError("npm/unknown", `what ${name} ${version} contains is not recorded`, {
      kind: "internal",
      facts: [["package-lock.json", integrity]],
      fix: "node packages/image/src/inputs/npm-tarball.ts, and look at what changed in npm-content.json",
    });
  }
  const files = await readInstalled(join(root, place)).catch((error: Error) => error);
  const found = files instanceof Error ? files.message : contentDigest(files);
  if (files instanceof Error || found !== known.content) {
    throw new ImageError("npm/altered", `${place} is not what package-lock.json names`, {
      kind: "internal",
      facts: [
        ["expected", `the files of ${name} ${version}, together ${known.content}`],
        ["found", found],
      ],
      fix: "rm -rf node_modules, then run this again",
    });
  }
  return files;
}
