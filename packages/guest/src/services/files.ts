// SPDX-License-Identifier: Apache-2.0
/**
 * The files that a runtime gives to a container: names of hosts, where to ask for others, its own name, a passwd entry
 * where its user has none, and the files of its project. All are read-only and belong to its root user.
 */

import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Service } from "@caisson/protocol/guest-config";
import { insideRoot, outsideId, type Place } from "./place.ts";

export interface BoundFile {
  source: string;
  target: string;
}

const localhost = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/** "address names" for /etc/hosts; what the service declares itself comes last. */
export function hostsText(
  names: readonly (readonly [address: string, names: readonly string[]])[],
  extra: Readonly<Record<string, string>>,
): string {
  const lines = names.map(([address, list]) => `${address}\t${list.join(" ")}\n`);
  return `${localhost}${lines.join("")}${Object.entries(extra)
    .map(([name, address]) => `${address}\t${name}\n`)
    .join("")}`;
}

/** The image's passwd file with a line for `user`; undefined when it has one, or no file that could be read. */
export function passwdWith(
  passwd: string,
  { user, group }: Pick<Service, "user" | "group">,
): string | undefined {
  const known = passwd.split("\n").some((line) => line.split(":")[2] === String(user));
  if (known) return undefined;
  const text = passwd === "" || passwd.endsWith("\n") ? passwd : `${passwd}\n`;
  return `${text}service:x:${user}:${group}::/:/sbin/nologin\n`;
}

/**
 * Writes them into the service's place. `resolver` is the guest's resolv.conf; directories of the project are seen with
 * the service's ids by `mountMapped`.
 */
export function writeFiles(
  place: Place,
  service: Service,
  hosts: string,
  resolver: string,
  mountMapped: (source: string, target: string) => void,
): BoundFile[] {
  const owner = outsideId(service, 0);
  const files: BoundFile[] = [];
  const add = (name: string, target: string, content: string): void => {
    const source = join(place.directory, name);
    writeFileSync(source, content, { mode: 0o644, flag: "wx" });
    chownSync(source, owner, owner);
    files.push({ source, target });
  };
  add("hosts", "/etc/hosts", hosts);
  add("resolv.conf", "/etc/resolv.conf", readFileSync(resolver, "utf8"));
  add("hostname", "/etc/hostname", `${service.hostname}\n`);
  const passwd = insideRoot(service.root, "etc/passwd");
  const changed = passwd === undefined ? undefined : passwdWith(readFileSync(passwd, "utf8"), service);
  if (changed !== undefined) add("passwd", "/etc/passwd", changed);
  for (const [index, { target, source, mode, user, group }] of service.files.entries()) {
    if (statSync(source).isDirectory()) {
      const seen = join(place.directory, `file-${index}`);
      mkdirSync(seen, { mode: 0o711 });
      mountMapped(source, seen);
      files.push({ source: seen, target });
      continue;
    }
    const copy = join(place.directory, `file-${index}`);
    copyFileSync(source, copy);
    chmodSync(copy, mode);
    chownSync(copy, outsideId(service, user), outsideId(service, group));
    files.push({ source: copy, target });
  }
  return files;
}
