// SPDX-License-Identifier: Apache-2.0
/** `volumes` and `tmpfs` of a service (Compose Specification, 05-services.md). */
import { isAbsolute, posix, resolve } from "node:path";
import type { ComposedFile, ComposedService } from "./composition.ts";
import type { Value } from "./document.ts";
import type { Fields } from "./fields.ts";
import { namePattern, nameRule } from "./names.ts";

export interface ServiceVolumes {
  mounts: ComposedService["mounts"];
  tmpfs: ComposedService["tmpfs"];
  files: ComposedFile[];
  dstack: ComposedService["dstack"];
  /** Named volumes that are used, and where. */
  named: { name: string; line: number }[];
}

/** Where nothing can be mounted: the kernel's interfaces, and the root itself. */
const reserved = /^\/(?:proc|sys|dev)(?:\/|$)|^\/$/;

/** A path in the service, clean and absolute. */
export function targetPath(fields: Fields, text: string, line: number, where: string): string | undefined {
  const path = posix.normalize(text).replace(/(?<=.)\/$/, "");
  if (!isAbsolute(path) || text.includes("\0") || Buffer.byteLength(path) > 4000) {
    return fields.refuse(line, where, `'${text}' is not an absolute path in the service`);
  }
  if (reserved.test(path) && path !== "/dev/shm") {
    return fields.refuse(line, where, `nothing can be mounted at ${path}: it is the kernel's`);
  }
  return path;
}

const sockets = /\/(?:docker|podman|containerd|crio)(?:\/[\w-]+)?\.sock$/;

/** Where dstack has the sockets of its guest agent. */
const agentSocket = /^(?:\/var)?\/run\/(dstack|tappd)\.sock$/;

/** What of the surroundings a volume may be. */
interface Around {
  directory: string;
  agent: boolean;
}

/** What a bind mount becomes: a file of the project in the image, a socket of the guest, or a refusal. */
function bind(
  fields: Fields,
  { directory, agent }: Around,
  source: string,
  target: string,
  readOnly: boolean,
  line: number,
  where: string,
  into: ServiceVolumes,
): void {
  const socket = agentSocket.exec(source)?.[1] as ComposedService["dstack"][number]["socket"] | undefined;
  if (socket !== undefined) {
    if (agent) into.dstack.push({ socket, target });
    else fields.refuse(line, where, "nobody serves dstack's API", "app.api: dstack in caisson.yaml");
  } else if (sockets.test(source)) {
    fields.refuse(line, where, "there is no container runtime in a guest to talk to", "remove the line");
  } else if (/^\/etc\/(?:localtime|timezone)$/.test(source)) {
    fields.refuse(
      line,
      where,
      "the time zone of one host is not in the image",
      "environment: { TZ: Region/City }",
    );
  } else if (!/^\.{1,2}(?:\/|$)/.test(source)) {
    fields.refuse(
      line,
      where,
      `${source} is a path of one host, and nothing of the host is in the image`,
      "a named volume for data; for a file of the project, its path from this file: ./FILE:TARGET:ro",
    );
  } else if (!readOnly) {
    fields.refuse(
      line,
      where,
      `${source} is on this machine, and what a service writes in the guest cannot come back to it`,
      "for a file of the project, add :ro and it is in the image as it is now; for data, a named volume",
    );
  } else {
    into.files.push({
      target,
      content: { path: resolve(directory, source) },
      mode: 0o444,
      user: 0,
      group: 0,
    });
  }
}

/** One named or anonymous volume. */
function mount(
  fields: Fields,
  name: string | undefined,
  target: string,
  readOnly: boolean,
  copyUp: boolean,
  line: number,
  where: string,
  into: ServiceVolumes,
): void {
  if (name !== undefined && !namePattern.test(name)) {
    fields.refuse(line, where, `'${name}' is not the name of a volume`, nameRule);
    return;
  }
  if (name !== undefined) into.named.push({ name, line });
  into.mounts.push({ ...(name !== undefined && { volume: name }), target, readOnly, copyUp });
}

/** `SOURCE:TARGET[:OPTIONS]` or `TARGET`. */
function shortForm(fields: Fields, item: Value, where: string, around: Around, into: ServiceVolumes): void {
  const text = fields.text(item, where);
  if (text === undefined) return;
  const { line } = text;
  const parts = text.text.split(":");
  if (parts.length > 3 || parts.some((part) => part === "")) {
    fields.refuse(line, where, `'${text.text}' is not a volume`, "NAME:/PATH, ./FILE:/PATH:ro or /PATH");
    return;
  }
  const [source, second, options = ""] = parts.length === 1 ? [undefined, parts[0]!] : parts;
  const target = targetPath(fields, second!, line, where);
  if (target === undefined) return;
  const words = options === "" ? [] : options.split(",");
  // Labels of SELinux and consistency between a Mac and its machine mean nothing here.
  const known = ["ro", "rw", "nocopy", "z", "Z", "cached", "delegated", "consistent"];
  const unknown = words.find((word) => !known.includes(word));
  if (unknown !== undefined) {
    fields.refuse(line, where, `the option '${unknown}' is not understood`, "ro, rw or nocopy");
    return;
  }
  const readOnly = words.includes("ro");
  if (source !== undefined && /^[./~]/.test(source)) {
    bind(fields, around, source, target, readOnly, line, where, into);
  } else mount(fields, source, target, readOnly, !words.includes("nocopy"), line, where, into);
}

function longForm(fields: Fields, item: Value, where: string, around: Around, into: ServiceVolumes): void {
  const keys = ["type", "source", "target", "read_only", "bind", "volume", "tmpfs", "consistency"] as const;
  const found = fields.record(item, where, keys, {
    image: ["an image is a service's root only", "a service of it"],
  });
  const type = found.type && fields.choice(found.type, `${where}.type`, ["volume", "bind", "tmpfs"]);
  const source = found.source && fields.string(found.source, `${where}.source`);
  const text = found.target && fields.text(found.target, `${where}.target`);
  if (found.type === undefined || found.target === undefined) {
    fields.refuse(item.line, where, "it needs a type and a target");
  }
  if (type === undefined || text === undefined) return;
  const target = targetPath(fields, text.text, text.line, where);
  if (target === undefined) return;
  const readOnly = (found.read_only && fields.boolean(found.read_only, `${where}.read_only`)) ?? false;
  if (type === "tmpfs") {
    const options =
      found.tmpfs === undefined
        ? {}
        : fields.record(found.tmpfs, `${where}.tmpfs`, ["size", "mode"] as const);
    const size = options.size && fields.size(options.size, `${where}.tmpfs.size`, 4096, 2 ** 40);
    const mode = options.mode && fields.mode(options.mode, `${where}.tmpfs.mode`);
    into.tmpfs.push({
      ...memoryFileSystem(target),
      ...(size && { size }),
      ...(mode !== undefined && { mode }),
    });
  } else if (type === "bind") {
    if (source === undefined) fields.refuse(item.line, where, "a bind names its source");
    else bind(fields, around, source, target, readOnly, item.line, where, into);
  } else {
    const refused = { subpath: ["a volume is mounted whole", "another volume"] } as const;
    const options =
      found.volume === undefined
        ? {}
        : fields.record(found.volume, `${where}.volume`, ["nocopy", "labels"] as const, refused);
    const nocopy = (options.nocopy && fields.boolean(options.nocopy, `${where}.volume.nocopy`)) ?? false;
    mount(fields, source, target, readOnly, !nocopy, item.line, where, into);
  }
}

export function readVolumes(
  fields: Fields,
  value: Value,
  where: string,
  directory: string,
  agent: boolean,
): ServiceVolumes {
  const around = { directory, agent };
  const into: ServiceVolumes = { mounts: [], tmpfs: [], files: [], dstack: [], named: [] };
  for (const item of fields.items(value, where)) {
    if (item.kind === "map") longForm(fields, item, where, around, into);
    else shortForm(fields, item, where, around, into);
  }
  return into;
}

const memoryFileSystem = (target: string) => ({ target, mode: 0o1777, user: 0, group: 0, executable: false });

/** `/PATH[:size=64m,mode=755,uid=1,gid=1,exec]`, one or several. */
export function readTmpfs(fields: Fields, value: Value, where: string): ComposedService["tmpfs"] {
  return fields.oneOrMore(value, where).flatMap(({ text, line }) => {
    const [path = "", options = ""] = text.split(/:(.*)/s);
    const target = targetPath(fields, path, line, where);
    if (target === undefined) return [];
    const result: ComposedService["tmpfs"][number] = memoryFileSystem(target);
    const item = (member: string) => ({ kind: "text", text: member, quoted: true, line }) as const;
    for (const option of options === "" ? [] : options.split(",")) {
      const [name = "", member = ""] = option.split(/=(.*)/s);
      const inside = `${where}.${name}`;
      if (name === "size") {
        const size = fields.size(item(member), inside, 4096, 2 ** 40);
        if (size !== undefined) result.size = size;
      } else if (name === "mode") result.mode = fields.mode(item(member), inside) ?? result.mode;
      else if (name === "uid") result.user = fields.integer(item(member), inside, 0, 65_535) ?? 0;
      else if (name === "gid") result.group = fields.integer(item(member), inside, 0, 65_535) ?? 0;
      else if (name === "exec") result.executable = true;
      else if (!["rw", "noexec", "nosuid", "nodev"].includes(name)) {
        fields.refuse(
          line,
          where,
          `the option '${option}' is not understood`,
          "size, mode, uid, gid or exec",
        );
      }
    }
    return result;
  });
}
