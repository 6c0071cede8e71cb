// SPDX-License-Identifier: Apache-2.0
/** Who a service runs as: the words of an image or a spec, looked up in the image's own /etc/passwd and /etc/group. */
import { ImageError } from "../errors.ts";
import { bytesOf } from "./content.ts";
import { follow } from "./program.ts";
import type { DirectoryNode } from "./tree.ts";

export interface Account {
  user: number;
  group: number;
  additionalGroups: number[];
  /** Its home directory, where /etc/passwd has the user. */
  home?: string;
}

const maximumId = 65_535;

/** The lines of a file like /etc/passwd, split at colons; none when the image has no such file. */
function table(tree: DirectoryNode, file: string): string[][] {
  const node = follow(tree, file);
  if (node?.kind !== "file") return [];
  return Buffer.from(bytesOf(node.content))
    .toString()
    .split("\n")
    .map((line) => line.split(":"));
}

const number = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;

/**
 * `text` is "", "user", "uid", "user:group" or "uid:gid" (OCI image-spec, config, `User`), "" being root. The group of a
 * user who is in /etc/passwd is the one that stands there, and the groups that list him in /etc/group are added, both
 * only where the text names no group. `more` are further groups, by name or number. Throws ImageError `app/user`.
 */
export function resolveAccount(tree: DirectoryNode, text: string, more: readonly string[] = []): Account {
  const refuse = (what: string): ImageError =>
    new ImageError("app/user", `the user '${text}': ${what}`, { fix: 'user: "UID:GID"' });
  const [userText = "", groupText] = text === "" ? ["0"] : text.split(":");
  const passwd = table(tree, "/etc/passwd");
  const wanted = number(userText);
  const entry =
    passwd.find(([name]) => name === userText) ??
    passwd.find(([, , id]) => wanted !== undefined && number(id) === wanted);
  const user = number(entry?.[2]) ?? (userText === "root" ? 0 : wanted);
  if (user === undefined || user > maximumId) {
    throw refuse(`the image has no user '${userText}' below ${maximumId + 1}`);
  }
  const groups = table(tree, "/etc/group");
  const groupOf = (name: string): number => {
    const id = number(groups.find(([first]) => first === name)?.[2]) ?? number(name);
    if (id === undefined || id > maximumId) {
      throw refuse(`the image has no group '${name}' below ${maximumId + 1}`);
    }
    return id;
  };
  const group = groupText === undefined ? (number(entry?.[3]) ?? 0) : groupOf(groupText);
  if (group > maximumId) throw refuse(`its group ${group} is above ${maximumId}`);
  const name = entry?.[0];
  const listed =
    groupText !== undefined || name === undefined
      ? []
      : groups
          .filter(([, , , members = ""]) => members.split(",").includes(name))
          .map(([first]) => groupOf(first!));
  const additional = new Set([...listed, ...more.map(groupOf)]);
  additional.delete(group);
  const home = entry?.[5];
  return {
    user,
    group,
    additionalGroups: [...additional].sort((a, b) => a - b),
    ...(home !== undefined && home.startsWith("/") && { home }),
  };
}
