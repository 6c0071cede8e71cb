// SPDX-License-Identifier: Apache-2.0
/**
 * `app.compose`: a compose file as a whole. Reads it, its variables and its environment files, and checks what no
 * service shows by itself: names, networks, volumes, ports, and that services can be started in some order.
 *
 * Invariants: everything that is wrong is said at once, with its line; nothing comes from the environment of whoever
 * builds; what the file does not say is the image's or the default of the Compose Specification.
 */

import { readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { serviceLimit } from "@caisson/protocol/guest-config";
import { messageOf } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { ImageError } from "../../errors.ts";
import { isInside, moveInside } from "../inside.ts";
import type { Composition, Note } from "./composition.ts";
import { checkSecrets, readConfigs } from "./configs.ts";
import { type MapValue, readDocument, type Value } from "./document.ts";
import { EnvironmentFileFault, parseEnvironmentFile } from "./environment-file.ts";
import { Fields } from "./fields.ts";
import type { Variables } from "./interpolation.ts";
import { namePattern, nameRule } from "./names.ts";
import { Problems } from "./problems.ts";
import type { Around, ReadService } from "./reading.ts";
import { readService } from "./service.ts";
import { checkTogether } from "./together.ts";

const maximumFile = 1 << 20;

/** A file of text; undefined when there is none. Throws an Error when it cannot be read or is too large. */
function readText(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  if (!found.isFile() || found.size > maximumFile) throw new Error("not a file of at most 1 MiB");
  return readFileSync(path, "utf8");
}

/** The variables of the `.env` beside a compose file, if there is one. Throws ImageError `compose/unreadable`. */
function dotEnvironment(directory: string): Variables {
  const path = join(directory, ".env");
  try {
    return parseEnvironmentFile(readText(path) ?? "", new Map());
  } catch (error) {
    const line = error instanceof EnvironmentFileFault ? `, line ${error.line}` : "";
    throw new ImageError("compose/unreadable", `${path}${line}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Reads a compose file. `variables` are the spec's own, and win over those of `.env`; with `agent`, services may have
 * the sockets of dstack's guest agent.
 * Errors: ImageError `compose/unreadable`, `compose/syntax`, `compose/refused`.
 */
export function readComposeFile(path: string, variables: Variables = new Map(), agent = false): Composition {
  let text: string | undefined;
  try {
    text = readText(path);
  } catch (error) {
    throw new ImageError("compose/unreadable", `cannot read ${path}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
  if (text === undefined) {
    throw new ImageError("compose/unreadable", `there is no ${path}`, { fix: "app.compose: ./compose.yaml" });
  }
  return parseComposition(text, path, new Map([...dotEnvironment(dirname(path)), ...variables]), agent);
}

const refusedTop = {
  include: ["an image is made of one file", "write its services out"],
  models: ["no model runner is part of an image", "a service that serves the model"],
} as const;

/** Checks the text of a compose file; files that it names are read from beside `path`, which is absolute. */
export function parseComposition(
  text: string,
  path: string,
  variables: Variables,
  agent = false,
): Composition {
  const directory = dirname(path);
  const problems = new Problems();
  const fields = new Fields(problems, variables);
  const notes: Note[] = [];
  const keys = ["name", "version", "services", "networks", "volumes", "configs", "secrets"] as const;
  const top = fields.record(readDocument(text, path), "the file", keys, refusedTop);

  const configs = readConfigs(fields, top.configs, directory);
  checkSecrets(fields, top.secrets);
  const networks = readNetworks(fields, top.networks);
  const volumes = readVolumes(fields, top.volumes);
  const around: Around = {
    fields,
    directory,
    agent,
    configs,
    secrets: new Set(top.secrets === undefined ? [] : fields.map(top.secrets, "secrets").entries.keys()),
    notes,
    environmentFile: (name, raw, required, line, where) =>
      environmentFile(fields, directory, name, raw, required, line, where),
  };
  const services = readServices(top.services, around);
  if (services.size > 0) checkTogether(fields, services, networks, volumes);
  problems.raise(path);
  return {
    path,
    services: new Map(
      [...services].map(
        ([name, { published, usedVolumes, usedNetworks, usedServices, links, ...service }]) => [
          name,
          service,
        ],
      ),
    ),
    networks,
    volumes,
    notes: notes.sort((a, b) => a.line - b.line),
  };
}

function environmentFile(
  fields: Fields,
  directory: string,
  name: string,
  raw: boolean,
  required: boolean,
  line: number,
  where: string,
): Variables {
  const file = resolve(directory, name);
  try {
    const text = readText(file);
    if (text !== undefined && !isInside(directory, realpathSync(file))) {
      fields.refuse(line, where, `${name} lies outside of the compose file's directory`, moveInside);
      return new Map();
    }
    if (text === undefined && required)
      fields.refuse(line, where, `there is no ${name}`, "required: false, or add it");
    return parseEnvironmentFile(text ?? "", fields.variables, raw);
  } catch (error) {
    const at = error instanceof EnvironmentFileFault ? `, line ${error.line}` : "";
    fields.refuse(line, where, `${relative(directory, file)}${at}: ${messageOf(error)}`);
    return new Map();
  }
}

function readServices(value: Value | undefined, around: Around): Map<string, ReadService> {
  const { fields } = around;
  const services = new Map<string, ReadService>();
  if (value === undefined) {
    fields.refuse(1, "services", "there are none", "services: { web: { image: … } }");
    return services;
  }
  const { entries } = fields.map(value, "services");
  const active = [...entries].filter(([, { value: member }]) => !isLeftOut(member));
  for (const [name, { line, value: member }] of entries) {
    if (isLeftOut(member)) {
      around.notes.push({ line, where: `services.${name}`, text: "left out: it has a profile" });
    }
  }
  if (active.length > serviceLimit) {
    fields.refuse(
      value.line,
      "services",
      `${active.length} services are more than ${serviceLimit}`,
      "use several guests",
    );
    return services;
  }
  if (active.length === 0) fields.refuse(value.line, "services", "there are none");
  for (const [name, { line, value: member }] of active) {
    const where = `services.${name}`;
    if (!namePattern.test(name)) fields.refuse(line, where, "this is not a name of a service", nameRule);
    else if (member.kind !== "map") fields.refuse(line, where, "it says nothing", "image: NAME:TAG");
    else services.set(name, readService(name, line, member, around));
  }
  return services;
}

/** A service with a profile is started only by who names the profile (15-profiles.md), and nobody does. */
const isLeftOut = (value: Value): boolean => {
  const profiles = value.kind === "map" ? value.entries.get("profiles")?.value : undefined;
  return profiles?.kind === "list" && profiles.items.length > 0;
};

function readNetworks(fields: Fields, value: Value | undefined): Composition["networks"] {
  const networks: Composition["networks"] = {};
  const entries: MapValue["entries"] =
    value === undefined ? new Map() : fields.map(value, "networks").entries;
  const keys = ["name", "driver", "internal", "attachable", "labels", "enable_ipv4", "enable_ipv6"] as const;
  for (const [name, { line, value: member }] of entries) {
    const where = `networks.${name}`;
    const found = fields.record(member, where, keys, {
      external: ["nothing runs beside the services of this file", "remove it"],
      ipam: ["addresses are the guest's own affair", "remove it"],
      driver_opts: ["there is one kind of network", "remove it"],
    });
    if (!namePattern.test(name)) fields.refuse(line, where, "this is not a name of a network", nameRule);
    if (found.driver !== undefined) fields.choice(found.driver, `${where}.driver`, ["bridge", "default"]);
    if (found.enable_ipv6 !== undefined && fields.boolean(found.enable_ipv6, where) === true) {
      fields.refuse(line, where, "networks of services have IPv4 addresses", "remove enable_ipv6");
    }
    const internal = (found.internal && fields.boolean(found.internal, `${where}.internal`)) ?? false;
    networks[name] = { internal };
  }
  // Every file has it, whether a service is on it or not.
  networks.default ??= { internal: false };
  return networks;
}

function readVolumes(fields: Fields, value: Value | undefined): Composition["volumes"] {
  const volumes: Composition["volumes"] = {};
  if (value === undefined) return volumes;
  for (const [name, { line, value: member }] of fields.map(value, "volumes").entries) {
    const where = `volumes.${name}`;
    const found = fields.record(member, where, ["name", "driver", "labels"] as const, {
      external: ["nothing was there before the guest", "remove it"],
      driver_opts: ["a volume is in the guest's memory", "remove it; x-caisson: { size: 256m } bounds it"],
    });
    if (!namePattern.test(name)) fields.refuse(line, where, "this is not a name of a volume", nameRule);
    if (found.driver !== undefined) fields.choice(found.driver, `${where}.driver`, ["local"]);
    const extension = member.kind === "map" ? member.entries.get("x-caisson")?.value : undefined;
    const own = extension && fields.record(extension, `${where}.x-caisson`, ["size"] as const).size;
    const size = own && fields.size(own, `${where}.x-caisson.size`, 4096, 2 ** 40);
    volumes[name] = { ...(size !== undefined && { size }) };
  }
  return volumes;
}
