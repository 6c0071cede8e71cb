// SPDX-License-Identifier: Apache-2.0
/**
 * What a sandbox mounts on has to be in its root, which is read-only below every writable layer. Existing files and
 * directories stay as they are; links are followed inside the root, as they will be at the mount.
 */
import type { Service } from "@caisson/protocol/guest-config";
import { ImageError } from "../errors.ts";
import { type DirectoryNode, directory, type Node, type Owner } from "./tree.ts";

type Kind = "file" | "directory";

const maximumLinks = 40;

/** Makes what is missing of `path`, the last of it for `owner`, and returns undefined; or what stands in the way. */
function ensure(root: DirectoryNode, path: string, kind: Kind, owner?: Owner): Node | undefined {
  let rest = path.split("/").filter((part) => part !== "");
  let at: DirectoryNode[] = [root];
  let links = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === ".") continue;
    if (part === "..") {
      if (at.length > 1) at.pop();
      continue;
    }
    const folder = at.at(-1)!;
    let node = folder.entries.get(part);
    if (node?.kind === "symlink") {
      if (++links > maximumLinks) return node;
      if (node.target.startsWith("/")) at = [root];
      rest = [...node.target.split("/").filter((piece) => piece !== ""), ...rest];
      continue;
    }
    const wanted = rest.length === 0 ? kind : "directory";
    if (node === undefined) {
      node = wanted === "directory" ? directory() : { kind: "file", mode: 0o644, content: new Uint8Array() };
      if (rest.length === 0 && owner !== undefined) node.owner = owner;
      folder.entries.set(part, node);
    }
    if (node.kind !== wanted) return node;
    if (node.kind === "directory") at.push(node);
  }
  return undefined;
}

/** What every sandbox has, and what those with a user namespace have besides. */
const always: readonly [path: string, kind: Kind][] = [
  ["/dev", "directory"],
  ["/proc", "directory"],
  ["/run", "directory"],
  ["/tmp", "directory"],
];
const contained: readonly [path: string, kind: Kind][] = [
  ["/sys", "directory"],
  ["/etc/hosts", "file"],
  ["/etc/hostname", "file"],
];

/**
 * Prepares a root for the services that have it. `files` are those that the image carries, by path. Throws ImageError
 * `app/mount` when the image has something else where a service mounts.
 */
export function addMountPoints(
  root: DirectoryNode,
  services: readonly Service[],
  files: readonly { path: string; node: Node }[],
): void {
  // Where nothing is mounted on it, anybody writes there, as in the image of any distribution.
  if (!root.entries.has("tmp") && services.some(({ isolation }) => isolation === "contained")) {
    root.entries.set("tmp", directory(0o1777));
  }
  for (const [path, kind] of always) ensure(root, path, kind);
  // An image may have it as a link into a directory that only exists at run time.
  if (root.entries.get("etc")?.kind !== "symlink") ensure(root, "/etc/resolv.conf", "file");
  for (const service of services) {
    if (service.isolation === "contained") for (const [path, kind] of contained) ensure(root, path, kind);
    const kindOf = (source: string): Kind =>
      files.find(({ path }) => path === source)?.node.kind === "directory" ? "directory" : "file";
    // An image that has nothing there says nothing of who writes to the volume, which begins with this directory.
    const { user, group } = service;
    const owner: [Owner?] = service.isolation === "contained" && user !== 0 ? [{ user, group }] : [];
    const wanted: [path: string, kind: Kind, owner?: Owner][] = [
      [service.workingDirectory, "directory"],
      ...service.mounts.map(({ target }): [string, Kind, Owner?] => [target, "directory", ...owner]),
      ...service.tmpfs.map(({ target }): [string, Kind] => [target, "directory"]),
      ...service.files.map(({ target, source }): [string, Kind] => [target, kindOf(source)]),
    ];
    for (const { target } of service.dstack ?? []) wanted.push([target, "file"]);
    if (service.isolation === "contained" && service.readOnly) {
      if (service.socket) wanted.push(["/run/caisson.sock", "file"]);
      if (service.key) wanted.push(["/run/secrets/caisson-key", "file"]);
      for (const { name } of service.secrets ?? []) wanted.push([`/run/secrets/${name}`, "file"]);
    }
    for (const [path, kind, owner] of wanted) {
      const inTheWay = ensure(root, path, kind, owner);
      if (inTheWay === undefined) continue;
      throw new ImageError(
        "app/mount",
        `${service.hostname} mounts at ${path}, where its image has a ${inTheWay.kind}`,
        {
          fix: `mount it elsewhere${kind === "directory" ? "" : ", or a directory there"}`,
        },
      );
    }
  }
}
