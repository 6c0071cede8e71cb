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
import { leastVolume, logKeyLimit, type Service } from "@caisson/protocol/guest-config";
import { volumeLimit } from "@caisson/protocol/volumes";
import { inWords, valueAt } from "@caisson/protocol/zod-words";
import { messageOf } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { repeatedKey } from "@caisson/vocabulary/yaml-keys";
import { type Document, isMap, isNode, LineCounter, parseDocument } from "yaml";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { type ImageReference, parseReference } from "../oci/reference.ts";
import { readRecipient } from "./log-keys.ts";

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
const fingerprint = z
  .string()
  .transform((text) => text.replace(/ /g, "").toUpperCase())
  .pipe(z.string().regex(/^[0-9A-F]{40}$/, "a fingerprint is 40 hex digits"));

/** A path from the spec's directory: it begins with ./ so that nobody takes it for a name. */
const pathOf = (what: string, ending: RegExp, example: string) =>
  z.string().superRefine((text, context) => {
    if (!ending.test(text)) context.addIssue({ code: "custom", message: `name ${what}, such as ${example}` });
    else if (!/^\.{0,2}\//.test(text)) context.addIssue({ code: "custom", message: `write ./${text}` });
  });

const node = pathOf("a JavaScript file", /\.m?js$/, "./server.mjs");

const size = z
  .string()
  .regex(/^[1-9]\d{0,5}(?:MiB|GiB)$/, 'write the size like "256MiB" or "2GiB"')
  .transform((text) => Number.parseInt(text, 10) * (text.endsWith("GiB") ? 2 ** 30 : 2 ** 20));

const memory = size.pipe(
  z
    .number()
    .min(16 * 2 ** 20, "at least 16MiB")
    .max(2 ** 40, "at most 1024GiB"),
);

const day = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}$/, "write the day like 2026-11-01")
  .refine((text) => !Number.isNaN(Date.parse(text)), "there is no such day")
  .transform((text) => new Date(`${text}T00:00:00Z`));

const archive = z.strictObject({
  keys: z.array(fingerprint).min(1).max(32).optional(),
  as_of: z.record(z.string().regex(/^[a-z][a-z-]*$/, "not the name of a suite"), day).default({}),
});

const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "not the name of an environment variable");

/** In hexadecimal, whichever way it is written. */
const logKey = z.string().transform((text, context) => {
  const key = readRecipient(text);
  if (key !== undefined) return Buffer.from(key).toString("hex");
  const message =
    "a public key of age's (age1…), or x25519: and 64 hex digits; `caisson logs --new-key FILE` makes one";
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});
const secret = variable.max(64);
const secrets = z
  .array(
    z.union([
      secret.transform((name) => ({ name })),
      z.strictObject({ name: secret, environment: variable.max(64).optional() }),
    ]),
  )
  .min(1)
  .max(64)
  .refine((list) => new Set(list.map(({ name }) => name)).size === list.length, "a secret stands here twice");

const volumeName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_.-]{0,20}$/, "1 to 21 of a-z, 0-9, _, . and -, starting with a letter or digit");

const app = z.strictObject({
  image: z.string().optional(),
  node: node.optional(),
  port: z.int().min(1).max(65_535).optional(),
  environment: z.record(variable, z.string()).optional(),
  arguments: z.array(z.string()).max(63).optional(),
  memory: memory.optional(),
  pids: z.int().min(1).max(32_768).optional(),
  compose: pathOf("a compose file", /\.ya?ml$/, "./compose.yaml").optional(),
  variables: z.record(variable, z.string()).optional(),
  identity: pathOf("a JSON file", /\.json$/, "./identity.json").optional(),
  secrets: secrets.optional(),
  volumes: z
    .record(volumeName, z.string().regex(/^\/(?!proc|sys|dev)[^\0]+$/, "not a path to mount at"))
    .optional(),
  api: z.enum(["dstack"]).optional(),
  read_only: z.boolean().optional(),
  logs: z.strictObject({ to: z.array(logKey).min(1).max(logKeyLimit) }).optional(),
});

const volume = z.strictObject({
  size: size.pipe(
    z
      .number()
      .min(leastVolume, "at least 256MiB")
      .max(2 ** 40, "at most 1024GiB"),
  ),
  kms_away: z.enum(["continue", "freeze"]).default("continue"),
});

/** What only a compose file uses, and what it says by itself, for each of its services. */
const onlyCompose = ["variables", "api"] as const;
const inCompose = ["port", "environment", "arguments", "secrets", "volumes"] as const;

const time = z.strictObject({
  secure_time: z.boolean().default(true),
  sources: z.array(z.unknown()).optional(),
  minOperators: z.unknown().optional(),
  limits: z.unknown().optional(),
});

const kms = z.strictObject({
  identity: z
    .string()
    .regex(/^[0-9a-f]{64}$/, "an identity is 64 lower-case hex digits")
    .optional(),
});

const tcpPort = z.int().min(1).max(65_535);
const front = z.strictObject({
  port: tcpPort,
  target: tcpPort.optional(),
  names: z
    .array(
      z
        .string()
        .max(253)
        .regex(
          /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
          "not a DNS name",
        ),
    )
    .max(16)
    .default([]),
  require: z.enum(["tls", "encrypted"]).default("tls"),
  acme: z
    .strictObject({
      directory: z.url({ protocol: /^https$/ }).max(512),
      roots: pathOf("a PEM file", /\.(?:pem|crt)$/, "./authority.pem").optional(),
    })
    .optional(),
  direct: z.array(tcpPort).max(64).default([]),
});

const top = z.strictObject({
  version: z.literal(1),
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "1 to 63 of a-z, 0-9 and -, starting with a letter or digit"),
  archive: archive.default({ as_of: {} }),
  app: app
    .refine(
      ({ image, node, compose }) => [image, node, compose].filter((one) => one !== undefined).length === 1,
      {
        message: "name one of image, node and compose",
      },
    )
    .superRefine((value, context) => {
      const misplaced = value.compose === undefined ? onlyCompose : inCompose;
      for (const key of misplaced) {
        if (value[key] === undefined) continue;
        const message =
          value.compose === undefined
            ? "this is for a compose file"
            : "say this in the compose file, for a service";
        context.addIssue({ code: "custom", path: [key], message });
      }
      if (value.read_only !== undefined && value.image === undefined) {
        context.addIssue({ code: "custom", path: ["read_only"], message: "this is for an image" });
      }
    }),
  time: time.default({ secure_time: true }),
  kms: kms.default({}),
  front: front
    .refine(({ acme, names }) => acme === undefined || names.length > 0, {
      path: ["names"],
      message: "a public certificate needs names",
    })
    .optional(),
  volumes: z
    .record(volumeName, volume)
    .refine((all) => Object.keys(all).length <= volumeLimit, `at most ${volumeLimit} volumes`)
    .optional(),
});

/** The keys of each part, for messages. */
const keysOf: Record<string, readonly string[]> = {
  "": Object.keys(top.shape),
  archive: Object.keys(archive.shape),
  app: Object.keys(app.shape),
  time: Object.keys(time.shape),
  kms: Object.keys(kms.shape),
  front: Object.keys(front.shape),
  volumes: ["a name, and of each volume: size, kms_away"],
};

/** A document whose nodes can be asked for their place. */
class Places {
  private readonly document: Document;
  private readonly lines: LineCounter;
  readonly path: string;
  constructor(document: Document, lines: LineCounter, path: string) {
    this.document = document;
    this.lines = lines;
    this.path = path;
  }

  at(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${this.path}, line ${line}, column ${col}`;
  }

  /** The place of the value at `keys`, or of the nearest thing around it that exists. */
  value(keys: readonly PropertyKey[]): string {
    for (let depth = keys.length; depth >= 0; depth--) {
      const found = depth === 0 ? this.document.contents : this.document.getIn(keys.slice(0, depth), true);
      if (isNode(found) && found.range) return this.at(found.range[0]);
    }
    return this.path;
  }

  /** The place of the key itself. */
  key(parent: readonly PropertyKey[], key: string): string {
    const map = parent.length === 0 ? this.document.contents : this.document.getIn(parent, true);
    const pair = isMap(map) ? map.items.find((item) => String(item.key) === key) : undefined;
    return isNode(pair?.key) && pair.key.range ? this.at(pair.key.range[0]) : this.value(parent);
  }
}

const dotted = (keys: readonly PropertyKey[]) => keys.map(String).join(".");

/** One mistake: where, what, and for the first what a person needs to mend it. */
interface Mistake {
  code: "spec/unknown-key" | "spec/value";
  place: string;
  text: string;
  keys?: readonly string[];
}

/** A key that is not there only because another one is misspelt is not a mistake of its own. */
function followsFrom(issue: z.core.$ZodIssue, found: unknown, issues: readonly z.core.$ZodIssue[]): boolean {
  if (issue.code === "unrecognized_keys") return false;
  const parents = issues.filter(({ code }) => code === "unrecognized_keys").map(({ path }) => dotted(path));
  const missing = found === undefined;
  return missing && parents.includes(dotted(issue.path.slice(0, -1)));
}

function mistakeOf(issue: z.core.$ZodIssue, found: unknown, places: Places): Mistake[] {
  if (issue.code !== "unrecognized_keys") {
    const what = issue.path.length === 0 ? "the spec" : `'${dotted(issue.path)}'`;
    return [
      { code: "spec/value", place: places.value(issue.path), text: `${what}: ${inWords(issue, found)}` },
    ];
  }
  const inside = issue.path.length === 0 ? "a spec" : `'${dotted(issue.path)}'`;
  const keys = keysOf[dotted(issue.path)] ?? [];
  return issue.keys.map((key) => ({
    code: "spec/unknown-key",
    place: places.key(issue.path, key),
    text: `${inside} has no key '${key}'`,
    keys,
  }));
}

/** The most mistakes that are said at once. */
const mostMistakes = 50;

/** All mistakes of a spec, misspelt keys first: a person mends them in one go. */
function schemaError({ issues }: z.ZodError, spec: unknown, places: Places): ImageError {
  const at = ({ path }: z.core.$ZodIssue): unknown => valueAt(spec, path);
  const mistakes = issues
    .filter((issue) => !followsFrom(issue, at(issue), issues))
    .flatMap((issue) => mistakeOf(issue, at(issue), places));
  const line = ({ place }: Mistake): number => Number(/, line (\d+)/.exec(place)?.[1] ?? 0);
  mistakes.sort(
    (a, b) => Number(a.code === "spec/value") - Number(b.code === "spec/value") || line(a) - line(b),
  );
  const [first, ...others] = mistakes as [Mistake, ...Mistake[]];
  const facts: [string, string][] = first.keys === undefined ? [] : [["keys", first.keys.join(", ")]];
  for (const { place, text } of others.slice(0, mostMistakes)) {
    facts.push(["also", `${place.slice(places.path.length).replace(/^, /, "")}: ${text}`]);
  }
  return new ImageError(first.code, `${first.place}: ${first.text}`, {
    facts,
    ...(first.keys !== undefined && { fix: "remove it, or correct its spelling" }),
  });
}

const mapped = (
  volumes: Readonly<Record<string, z.infer<typeof volume>>>,
): Record<string, PersistentVolume> =>
  Object.fromEntries(
    Object.entries(volumes).map(([name, { size, kms_away: kmsAway }]) => [name, { size, kmsAway }]),
  );

/** Whose time counts; undefined: the built-in list. Throws ImageError `spec/value`, with the place. */
function timeConfiguration(
  { secure_time: _, ...stated }: z.infer<typeof time>,
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

const frontOf = ({ target, acme, ...rest }: z.infer<typeof front>, directory: string): FrontSpec => ({
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

/** A text's plain data, and where in it everything stands. Throws ImageError `spec/syntax`. */
function readPlaced(text: string, path: string): { value: unknown; places: Places } {
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      logLevel: "error",
      uniqueKeys: false,
      stringKeys: true,
    });
    const places = new Places(document, lines, path);
    const fault = document.errors[0] ?? document.warnings[0];
    if (fault !== undefined) {
      throw new ImageError("spec/syntax", `${places.at(fault.pos[0])}: ${messageOf(fault).split("\n")[0]}`);
    }
    const twice = repeatedKey(document.contents);
    if (twice !== undefined) {
      throw new ImageError(
        "spec/syntax",
        `${places.at(twice.offset)}: '${twice.name}' stands twice: keys are unique`,
      );
    }
    return { value: document.toJS({ maxAliasCount: 100 }), places };
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError("spec/syntax", `${path}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Checks the text of a spec. `path` (absolute) is for messages and for what relative paths start from.
 * Errors: ImageError `spec/syntax`, `spec/unknown-key`, `spec/value`, each with line and column.
 */
export function parseSpec(text: string, path: string): Spec {
  const { value, places } = readPlaced(text, path);
  const result = top.safeParse(value);
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
