// SPDX-License-Identifier: Apache-2.0
/** `configs` and `secrets`, at the top and in a service (Compose Specification, 08-configs.md, 09-secrets.md). */
import { resolve } from "node:path";
import type { ComposedFile } from "./composition.ts";
import type { Value } from "./document.ts";
import type { Fields } from "./fields.ts";
import { targetPath } from "./volumes.ts";

/** The content of each config; undefined where it is wrong, which has been said. */
export type Configs = ReadonlyMap<string, ComposedFile["content"] | undefined>;

const elsewhere = [
  "it is made outside of this file, and an image is made of what it has",
  "file or content",
] as const;

export function readConfigs(fields: Fields, value: Value | undefined, directory: string): Configs {
  const configs = new Map<string, ComposedFile["content"] | undefined>();
  if (value === undefined) return configs;
  for (const [name, { line, value: member }] of fields.map(value, "configs").entries) {
    const where = `configs.${name}`;
    const found = fields.record(
      member,
      where,
      ["file", "content", "environment", "name", "labels"] as const,
      {
        external: elsewhere,
        template_driver: ["contents are not templates", "content, with variables"],
      },
    );
    const sources = [found.file, found.content, found.environment].filter((one) => one !== undefined);
    configs.set(name, undefined);
    if (sources.length !== 1) {
      fields.refuse(line, where, "it has one of file, content and environment");
      continue;
    }
    const text = fields.text(sources[0]!, where);
    if (text === undefined) continue;
    if (found.file !== undefined) configs.set(name, { path: resolve(directory, text.text) });
    else if (found.content !== undefined) configs.set(name, Buffer.from(text.text));
    else {
      const variable = fields.variables.get(text.text);
      if (variable === undefined) fields.refuse(text.line, where, `the variable ${text.text} has no value`);
      else configs.set(name, Buffer.from(variable));
    }
  }
  return configs;
}

/** The key that the KMS releases. Other secrets are its owners' (docs/releases.md); none can be in an image. */
const keySecret = "caisson-key";

export const secretName = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;

export function checkSecrets(fields: Fields, value: Value | undefined): void {
  if (value === undefined) return;
  for (const [name, { line, value: member }] of fields.map(value, "secrets").entries) {
    const external = member.kind === "map" ? member.entries.get("external")?.value : undefined;
    const isExternal =
      external !== undefined && fields.boolean(external, `secrets.${name}.external`) === true;
    if (isExternal && (name === keySecret || secretName.test(name))) continue;
    if (isExternal) {
      fields.refuse(
        line,
        `secrets.${name}`,
        "a secret's name is 1 to 64 of A-Z a-z 0-9 _, and begins with none of 0-9",
      );
      continue;
    }
    fields.refuse(
      line,
      `secrets.${name}`,
      "whoever has the image can read all that is in it, so a secret cannot come from a file or a variable of the build",
      "external: true, and its owners give it (caisson secrets); for what is not secret, configs",
    );
  }
}

interface Grant {
  source: string;
  target: string | undefined;
  mode: number | undefined;
  user: number;
  group: number;
  line: number;
}

/** What a service is granted, in both forms. */
function grants(fields: Fields, value: Value, where: string): Grant[] {
  return fields.items(value, where).flatMap((item): Grant[] => {
    if (item.kind !== "map") {
      const name = fields.text(item, where);
      if (name === undefined) return [];
      return [{ source: name.text, target: undefined, mode: undefined, user: 0, group: 0, line: name.line }];
    }
    const found = fields.record(item, where, ["source", "target", "uid", "gid", "mode"] as const);
    const source = found.source && fields.string(found.source, `${where}.source`);
    if (source === undefined) {
      if (found.source === undefined) fields.refuse(item.line, where, "it names no source");
      return [];
    }
    const number = (member: Value | undefined, key: string) =>
      (member && fields.integer(member, `${where}.${key}`, 0, 65_535)) ?? 0;
    return [
      {
        source,
        target: found.target && fields.string(found.target, `${where}.target`),
        mode: found.mode && fields.mode(found.mode, `${where}.mode`),
        user: number(found.uid, "uid"),
        group: number(found.gid, "gid"),
        line: item.line,
      },
    ];
  });
}

export function readServiceConfigs(
  fields: Fields,
  value: Value,
  where: string,
  configs: Configs,
): ComposedFile[] {
  return grants(fields, value, where).flatMap(({ source, target, mode, user, group, line }) => {
    if (!configs.has(source)) {
      fields.refuse(line, where, `there is no config '${source}' at the top of the file`);
      return [];
    }
    const content = configs.get(source);
    const text = target ?? source;
    const path = targetPath(fields, text.startsWith("/") ? text : `/${text}`, line, where);
    if (content === undefined || path === undefined) return [];
    return [{ target: path, content, mode: mode ?? 0o444, user, group }];
  });
}

/** Whether a service is granted the application's key, and which of its owners' secrets. */
export function readServiceSecrets(
  fields: Fields,
  value: Value,
  where: string,
  declared: ReadonlySet<string>,
): { key: boolean; names: string[] } {
  let key = false;
  const names = new Set<string>();
  for (const { source, target, line } of grants(fields, value, where)) {
    if (!declared.has(source))
      fields.refuse(line, where, `there is no secret '${source}' at the top of the file`);
    else {
      if (source === keySecret) key = true;
      else names.add(source);
      if (target !== undefined && target !== source && target !== `/run/secrets/${source}`) {
        fields.refuse(line, where, `it is at /run/secrets/${source}, and nowhere else`, "remove target");
      }
    }
  }
  return { key, names: [...names] };
}
