// SPDX-License-Identifier: Apache-2.0
/** One service of a compose file: each key honoured, noted or refused, and what they say together. */
import { plainService } from "./composition.ts";
import type { MapValue } from "./document.ts";
import { readExtension, readSecretVariables } from "./extension.ts";
import type { Fields } from "./fields.ts";
import { handlers, mayBeEmpty } from "./keys.ts";
import type { Around, ReadService } from "./reading.ts";
import { inertKeys, refusedKeys } from "./refusals.ts";

/** Reads a service; what is wrong is said to `around.fields.problems`. */
export function readService(name: string, line: number, value: MapValue, around: Around): ReadService {
  const where = `services.${name}`;
  const { fields, notes } = around;
  const service: ReadService = {
    ...plainService(name, line),
    published: [],
    usedVolumes: [],
    usedNetworks: [{ name: "default", line }],
    usedServices: [],
    links: [],
  };
  const extension = value.entries.get("x-caisson")?.value;
  if (extension !== undefined) readSecretVariables(service, extension, around, `${where}.x-caisson`);
  const replaces = (key: string) => extension?.kind === "map" && extension.entries.has(key);
  // Whatever the order in the file: what stands in the service wins over its files of variables.
  const entries = [...value.entries].sort(([a], [b]) => Number(b === "env_file") - Number(a === "env_file"));
  for (const [key, { line: keyLine, value: member }] of entries) {
    const at = `${where}.${key}`;
    if (key === "x-caisson" || (key === "build" && replaces("image"))) continue;
    if (key.startsWith("x-")) continue;
    if (member.kind === "nothing" && Object.hasOwn(handlers, key)) {
      if (!mayBeEmpty.includes(key))
        fields.refuse(keyLine, at, "it says nothing", "give it a value, or remove it");
    } else if (Object.hasOwn(handlers, key)) handlers[key]!(service, member, around, at);
    else if (Object.hasOwn(refusedKeys, key)) fields.refuse(keyLine, at, ...refusedKeys[key]!);
    else if (Object.hasOwn(inertKeys, key)) notes.push({ line: keyLine, where: at, text: inertKeys[key]! });
    else
      fields.refuse(
        keyLine,
        at,
        "Compose has no such key for a service",
        "correct its spelling, or remove it",
      );
  }
  if (value.entries.has("network_mode") && value.entries.has("networks")) {
    fields.refuse(
      value.entries.get("network_mode")!.line,
      where,
      "network_mode and networks exclude each other",
    );
  }
  if (extension !== undefined) readExtension(service, extension, around, `${where}.x-caisson`);
  if (
    service.image === "" &&
    !["build", "image"].some((key) => value.entries.has(key)) &&
    !replaces("node")
  ) {
    fields.refuse(line, where, "it has no image", "image: NAME:TAG, or image: ./LAYOUT");
  }
  checkTargets(fields, service, where);
  return service;
}

/** Nothing is mounted over another mount of the same path. */
function checkTargets(fields: Fields, service: ReadService, where: string): void {
  const { line, mounts, tmpfs, files, dstack } = service;
  const seen = new Set<string>();
  for (const { target } of [...mounts, ...tmpfs, ...files, ...dstack]) {
    if (seen.has(target)) fields.refuse(line, where, `two things are mounted at ${target}`, "mount one");
    seen.add(target);
  }
}
