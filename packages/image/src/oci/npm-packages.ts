// SPDX-License-Identifier: Apache-2.0
/** The npm packages that lie in an application: what its `node_modules` say of themselves, which nobody checked. */
import { fromUtf8 } from "@caisson/vocabulary/bytes";
import { bytesOf, sizeOf } from "../build/content.ts";
import { type Content, type DirectoryNode, walk } from "../build/tree.ts";

export interface NpmPackage {
  /** In the image. */
  path: string;
  name: string;
  version: string;
  licence?: string;
}

const packageFile = /\/node_modules\/((?:@[^/]+\/)?[^/@]+)\/package\.json$/;
const largest = 1 << 20;
const version = /^\d[0-9A-Za-z.+-]{0,63}$/;
const licence = /^[ -~]{1,120}$/;

/** A description that cannot be read says nothing: the file itself is listed either way. */
function read(content: Content): { version?: unknown; license?: unknown } | undefined {
  if (sizeOf(content) > largest) return undefined;
  try {
    return JSON.parse(fromUtf8(bytesOf(content))) ?? undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/**
 * One for each \`package.json\` of an installed package below \`place\`, in the order of the tree. One that says no
 * version is left out.
 */
export function npmPackagesIn(tree: DirectoryNode, place: string): NpmPackage[] {
  const found: NpmPackage[] = [];
  for (const [path, node] of walk(tree)) {
    const name = packageFile.exec(path)?.[1];
    if (name === undefined || node.kind !== "file" || !path.startsWith(`${place}/`)) continue;
    const said = read(node.content);
    if (typeof said?.version !== "string" || !version.test(said.version)) continue;
    found.push({
      path: path.slice(0, -"/package.json".length),
      name,
      version: said.version,
      ...(typeof said.license === "string" && licence.test(said.license) && { licence: said.license }),
    });
  }
  return found;
}
