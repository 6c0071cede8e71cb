// SPDX-License-Identifier: Apache-2.0
/** The shape of `caisson.yaml`: what each key may say, and the words for what it may not. */
import { leastVolume, logKeyLimit } from "@caisson/protocol/guest-config";
import { volumeLimit } from "@caisson/protocol/volumes";
import * as z from "zod";
import { readRecipient } from "./log-keys.ts";

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

export const specSchema = z.strictObject({
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
export const keysOf: Record<string, readonly string[]> = {
  "": Object.keys(specSchema.shape),
  archive: Object.keys(archive.shape),
  app: Object.keys(app.shape),
  time: Object.keys(time.shape),
  kms: Object.keys(kms.shape),
  front: Object.keys(front.shape),
  volumes: ["a name, and of each volume: size, kms_away"],
};

export type TimeInput = z.infer<typeof time>;
export type FrontInput = z.infer<typeof front>;
export type VolumeInput = z.infer<typeof volume>;
