// SPDX-License-Identifier: Apache-2.0
/** What a tree of an image looks like, read by us or by a tool: as rows that can be compared. */
import { equal } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs"; // biome-ignore format: one line
import { join } from "node:path";
import { bytesOf } from "@caisson/image/content";
import { makeImage } from "@caisson/image/testing/archive";
import { type DirectoryNode, type Node, walk } from "@caisson/image/tree";

/** Only root can give files away. */
export const isRoot = process.getuid!() === 0;

/** An OCI layout whose one image has the tag `t`. */
export function writeLayout(directory: string, layers: readonly Uint8Array[]): void {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(directory, "blobs/sha256"), { recursive: true });
  const image = makeImage(layers, { ownType: true });
  for (const [digest, bytes] of image.blobs)
    writeFileSync(join(directory, "blobs/sha256", digest.slice("sha256:".length)), bytes);
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const annotations = { "org.opencontainers.image.ref.name": "t" };
  const manifests = [{ ...image.descriptor, annotations }];
  writeFileSync(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
}

/** A row a name: what it is, mode, owner, and content, target, or the first name of the same file. */
export type Rows = string[];

export function ours(root: DirectoryNode): Rows {
  const first = new Map<Node, string>();
  return [...walk(root)].map(([path, node]) => {
    const same = first.get(node);
    if (same !== undefined) return `${path} = ${same}`;
    first.set(node, path);
    const { user, group } = node.owner ?? { user: 0, group: 0 };
    const owner = isRoot ? `${user}:${group}` : "";
    if (node.kind === "symlink") return `${path} ${owner} -> ${node.target}`;
    const mode = node.mode.toString(8);
    const text = node.kind === "file" ? Buffer.from(bytesOf(node.content)).toString() : "/";
    return `${path} ${owner} ${mode} ${text}`;
  });
}

/** The same of a directory of the machine, without what an image here cannot hold. */
export function theirs(host: string): Rows {
  const rows: Rows = [];
  const first = new Map<number, string>();
  const visit = (path: string): void => {
    for (const name of readdirSync(host + path).sort()) {
      const at = `${path}/${name}`;
      const stat = lstatSync(host + at);
      if (stat.isFIFO()) continue;
      const same = stat.isDirectory() ? undefined : first.get(stat.ino);
      if (same !== undefined) {
        rows.push(`${at} = ${same}`);
        continue;
      }
      first.set(stat.ino, at);
      const owner = isRoot ? `${stat.uid}:${stat.gid}` : "";
      const mode = (stat.mode & (stat.isDirectory() ? 0o1777 : 0o777)).toString(8);
      if (stat.isSymbolicLink()) rows.push(`${at} ${owner} -> ${readlinkSync(host + at)}`);
      else if (stat.isDirectory()) {
        rows.push(`${at} ${owner} ${mode} /`);
        visit(at);
      } else rows.push(`${at} ${owner} ${mode} ${readFileSync(host + at, "utf8")}`);
    }
  };
  visit("");
  return rows;
}

/** Runs a tool, which has to be there. */
export function run(tool: string, ...args: string[]) {
  const { status, stderr, error, stdout } = spawnSync(tool, args, { encoding: "utf8", timeout: 60_000 });
  equal(error, undefined, `${tool} does not run: ${error?.message}`);
  return { ok: status === 0, stdout, stderr };
}
