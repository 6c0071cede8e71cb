// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson.yaml`: what a user says about an image. Everything else (packages, kernel, layout) is the product's.
 *
 * Invariants: what is not in the schema is refused, with its line and column, so that a misspelt key cannot silently
 * mean its default; a wrong type is never converted. YAML 1.2, one document, no duplicate keys.
 */

import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { parseTimeConfiguration, type TimeConfiguration } from "@caisson/nts/configuration";
import type { Service } from "@caisson/protocol/guest-config";
import { messageOf } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { ImageError } from "../errors.ts";
import { type ImageReference, parseReference } from "../oci/reference.ts";
import { type Places, readPlaced } from "./places.ts";
import { schemaError } from "./spec-mistakes.ts";
import { type FrontInput, specSchema, type TimeInput, type VolumeInput } from "./spec-schema.ts";

/** Where the application's OCI image comes from. */
export type AppSource =
  /** `image: nginx:1.27`, `image: ./layout:tag`, `image: ./saved.tar`: as `oci/reference.ts` reads it. */
  | { kind: "image"; reference: ImageReference }
  /** `node: ./app/server.mjs`: Caisson makes the OCI image, from its own Node and this file's directory (absolute path). */
  | { kind: "node"; entry: string }
  /** `compose: ./compose.yaml`: several services (absolute path). */
  | { kind: "compose"; path: string };

export interface App {
  source: AppSource;
  /** TCP port that the application serves, if it does. */
  port?: number;
  /** Added to, and overriding, the image's own. */
  environment: Record<string, string>;
  /** Replaces the image's Cmd. */
  arguments?: string[];
  /** Limit in bytes; of a compose file, of each service that names none. */
  memory?: number;
  /** Limit on the number of processes and threads, likewise. */
  pids?: number;
  /** Values of the variables in a compose file. */
  variables: Record<string, string>;
  /** An image's root is read-only, and it needs no user namespace. */
  readOnly?: boolean;
  /** The document of who the application is (absolute path); without one its description is that. */
  identity?: string;
  /** Secrets of its owners that it gets; `environment` names a variable that has one, too. */
  secrets?: NonNullable<Service["secrets"]>;
  /** Where it sees the persistent volumes, by their names. */
  volumes?: Record<string, string>;
  /** What services may talk to besides `/run/caisson.sock`. */
  api?: "dstack";
  /** X25519 public keys, hex, to which what services write is encrypted. */
  logs?: { to: string[] };
}

export interface PersistentVolume {
  /** Bytes. */
  size: number;
  kmsAway: "continue" | "freeze";
}

export interface FrontSpec {
  /** On the machine. */
  port: number;
  /** The application's published port that it stands before; missing: the first. */
  target?: number;
  names: string[];
  require: "tls" | "encrypted";
  /** `roots`: absolute path of a PEM file. */
  acme?: { directory: string; roots?: string };
  /** Published ports that are reached without it, besides. */
  direct: number[];
}

export interface Spec {
  version: 1;
  name: string;
  archive: {
    /** Fingerprints (primary or subkey, upper-case hex) of the keys that may sign an index; one must have. */
    keys: string[];
    /** Where the keys are named, for messages. */
    keysNamedIn: string;
    /** Suites whose index may have expired, and the day by which it is judged instead of today. */
    as_of: Record<string, Date>;
  };
  app: App;
  time: { secure_time: boolean; configuration?: TimeConfiguration };
  kms: { identity?: string };
  /** Where connections from outside end; missing: at the application. */
  front?: FrontSpec;
  /** Volumes that outlive the machine, by name. */
  volumes?: Record<string, PersistentVolume>;
  /** Absolute paths of the file, and of the directory from which its relative paths start. */
  path: string;
  directory: string;
}

/** The keys that sign Debian 13: archive, security archive, stable release (package debian-archive-keyring). */
export const debianKeys = [
  "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
  "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
  "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
] as const;

const maximumBytes = 1 << 20;
const mapped = (volumes: Readonly<Record<string, VolumeInput>>): Record<string, PersistentVolume> =>
  Object.fromEntries(
    Object.entries(volumes).map(([name, { size, kms_away: kmsAway }]) => [name, { size, kmsAway }]),
  );

/** Whose time counts; undefined: the built-in list. Throws ImageError `spec/value`, with the place. */
function timeConfiguration(
  { secure_time: _, ...stated }: TimeInput,
  places: Places,
): TimeConfiguration | undefined {
  const [first] = Object.keys(stated);
  if (first === undefined) return undefined;
  try {
    return parseTimeConfiguration(stated);
  } catch (error) {
    throw new ImageError("spec/value", `${places.value(["time", first])}: ${messageOf(error)}`, {
      fix: "docs/secure-time.md has an example",
      cause: error,
    });
  }
}

/** Without variables that are undefined. */
const secretList = (
  list: readonly { name: string; environment?: string | undefined }[],
): NonNullable<Service["secrets"]> =>
  list.map(({ name, environment }) => ({ name, ...(environment !== undefined && { environment }) }));

const frontOf = ({ target, acme, ...rest }: FrontInput, directory: string): FrontSpec => ({
  ...rest,
  ...(target !== undefined && { target }),
  ...(acme !== undefined && {
    acme: {
      directory: acme.directory,
      ...(acme.roots !== undefined && { roots: resolve(directory, acme.roots) }),
    },
  }),
});

/** What `app.image`, `app.node` or `app.compose` names. Throws ImageError `spec/value`, with the place. */
function sourceOf(
  {
    image,
    node,
    compose,
  }: { image?: string | undefined; node?: string | undefined; compose?: string | undefined },
  directory: string,
  places: Places,
): AppSource {
  if (node !== undefined) return { kind: "node", entry: resolve(directory, node) };
  if (image === undefined) return { kind: "compose", path: resolve(directory, compose!) };
  try {
    return { kind: "image", reference: parseReference(image, directory) };
  } catch (error) {
    const { message, fix } = error as ImageError;
    throw new ImageError("spec/value", `${places.value(["app", "image"])}: 'app.image': ${message}`, {
      ...(fix !== undefined && { fix }),
      cause: error,
    });
  }
}

/**
 * Checks the text of a spec. `path` (absolute) is for messages and for what relative paths start from.
 * Errors: ImageError `spec/syntax`, `spec/unknown-key`, `spec/value`, each with line and column.
 */
export function parseSpec(text: string, path: string): Spec {
  const { value, places } = readPlaced(text, path);
  const result = specSchema.safeParse(value);
  if (!result.success) throw schemaError(result.error, value, places);
  const { archive, app, time, kms, front, volumes, ...rest } = result.data;

  const directory = dirname(path);
  const {
    port,
    arguments: argumentList,
    environment = {},
    variables = {},
    memory,
    pids,
    api,
    identity,
    secrets,
    read_only: readOnly,
    logs,
  } = app;
  const configuration = timeConfiguration(time, places);
  return {
    ...rest,
    archive: {
      keys: archive.keys ?? [...debianKeys],
      keysNamedIn:
        archive.keys === undefined
          ? "built in, for Debian 13"
          : `${places.key(["archive"], "keys")}: archive.keys`,
      as_of: archive.as_of,
    },
    app: {
      environment,
      variables,
      ...(app.volumes && { volumes: app.volumes }),
      ...(memory && { memory }),
      ...(pids && { pids }),
      ...(api && { api }),
      ...(logs && { logs }),
      ...(identity && { identity: resolve(directory, identity) }),
      ...(secrets && { secrets: secretList(secrets) }),
      ...(readOnly !== undefined && { readOnly }),
      ...(port && { port }),
      ...(argumentList && { arguments: argumentList }),
      source: sourceOf(app, directory, places),
    },
    time: { secure_time: time.secure_time, ...(configuration && { configuration }) },
    kms: { ...(kms.identity && { identity: kms.identity }) },
    ...(front && { front: frontOf(front, directory) }),
    ...(volumes && { volumes: mapped(volumes) }),
    path,
    directory,
  };
}

/** The file that a spec's application begins with; the spec itself where that is an image's business. */
const entryOf = ({ app: { source }, path }: Spec): string =>
  source.kind === "node" ? source.entry : source.kind === "compose" ? source.path : path;

/** What is missing is said before anything is fetched or built. */
function checkEntry(spec: Spec, exists: boolean): void {
  if (exists) return;
  const key = spec.app.source.kind;
  throw new ImageError("app/directory", `${entryOf(spec)} is not a file`, {
    fix: `correct app.${key} in ${spec.path}`,
  });
}

/** Names of a compose file, where a directory is named; in the order in which Compose looks for them. */
export const composeNames = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/** The spec of a directory. Throws ImageError `spec/compose-file` where there is a compose file alone. */
async function specIn(directory: string): Promise<string> {
  const names = await readdir(directory);
  const compose = composeNames.find((name) => names.includes(name));
  if (compose !== undefined && !names.includes("caisson.yaml")) throw composeFile(join(directory, compose));
  return join(directory, "caisson.yaml");
}

/** A compose file says what runs, and not how the machine is called and what it keeps: its spec is to be written. */
const composeFile = (file: string): ImageError =>
  new ImageError("spec/compose-file", `${file} is a compose file; a spec beside it names it`, {
    kind: "usage",
    facts: [
      ["caisson.yaml", "version: 1"],
      ["", `name: ${/[a-z0-9][a-z0-9-]{0,62}/.exec(basename(dirname(file)).toLowerCase())?.[0] ?? "app"}`],
      ["", `app: { compose: ./${basename(file)} }`],
    ],
    fix: `write these lines into ${join(dirname(file), "caisson.yaml")}; caisson check ${file} says what will run`,
  });

/**
 * Reads a spec: `path` is the file, or a directory with a `caisson.yaml`. Errors: as `parseSpec`, `spec/unreadable`, and
 * `app/directory` when the file that it names is not there.
 */
export async function readSpec(path: string): Promise<Spec> {
  let file = resolve(path);
  try {
    if ((await stat(file)).isDirectory()) file = await specIn(file);
    const found = await stat(file);
    if (!found.isFile() || found.size > maximumBytes) throw new Error("it is not a file of at most 1 MiB");
    const text = await readFile(file, "utf8");
    if (/^services:/m.test(text) && !/^app:/m.test(text)) throw composeFile(file);
    const spec = parseSpec(text, file);
    checkEntry(spec, (await stat(entryOf(spec)).catch(() => undefined))?.isFile() === true);
    return spec;
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError("spec/unreadable", `cannot read ${file}: ${reasonOf(error)}`, {
      // A file that is not there is the command line's mistake, one that cannot be read the file's.
      kind: (error as NodeJS.ErrnoException).code === "ENOENT" ? "usage" : "input",
      fix: "name a spec file, or a directory with a caisson.yaml",
      cause: error,
    });
  }
}
