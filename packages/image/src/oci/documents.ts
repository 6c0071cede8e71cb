// SPDX-License-Identifier: Apache-2.0
/**
 * The documents of an image: index, manifest and configuration (image-spec 1.1; Docker's manifest 2.2 and manifest
 * list differ in names only). What a document is, it says itself, because its digest covers that.
 */
import { messageOf } from "@caisson/vocabulary/failure";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import type { Compression } from "../inputs/xz.ts";
import { digestForm } from "./reference.ts";

/** What names a blob. */
export interface Descriptor {
  mediaType: string;
  /** "sha256:…" */
  digest: string;
  size: number;
}

/** A check of health as the image states it. */
export interface Healthcheck {
  /** `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`; empty when inherited. */
  test: string[];
  /** Milliseconds; absent when the image leaves it to the runtime. */
  intervalMs?: number;
  timeoutMs?: number;
  startPeriodMs?: number;
  startIntervalMs?: number;
  retries?: number;
}

export interface OciConfig {
  entrypoint: string[];
  command: string[];
  environment: Record<string, string>;
  workingDirectory: string;
  /** As in the image: "" (root), "uid", "uid:gid" or names. */
  user: string;
  /** "80/tcp", sorted. */
  exposedPorts: string[];
  /** Absolute paths, sorted. */
  volumes: string[];
  stopSignal?: string;
  /** What runs the text of `CMD-SHELL`, where the image names it. */
  shell?: string[];
  healthcheck?: Healthcheck;
  labels: Record<string, string>;
}

const digest = z.string().regex(digestForm, "only sha256 digests are supported");
/** More than an image may unpack to. */
const maximumBlob = 16 * 2 ** 30;
const descriptorShape = {
  mediaType: z.string(),
  digest,
  size: z.int().min(0).max(maximumBlob),
};
const platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().nullish() });
const annotations = z.record(z.string(), z.string()).nullish();

const indexSchema = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(z.object({ ...descriptorShape, platform: platform.nullish(), annotations })).max(1000),
});
const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  config: z.object(descriptorShape),
  layers: z.array(z.object(descriptorShape)).max(128),
});
const texts = z.array(z.string()).nullish();
const names = z.record(z.string(), z.unknown()).nullish();
/** Nanoseconds. */
const duration = z.number().nullish();
const configSchema = z.object({
  os: z.string(),
  architecture: z.string(),
  rootfs: z.object({ type: z.literal("layers"), diff_ids: z.array(digest) }),
  config: z
    .object({
      Entrypoint: texts,
      Cmd: texts,
      Env: texts,
      WorkingDir: z.string().nullish(),
      User: z.string().nullish(),
      ExposedPorts: names,
      Volumes: names,
      StopSignal: z.string().nullish(),
      Shell: texts,
      Labels: annotations,
      Healthcheck: z
        .object({
          Test: texts,
          Interval: duration,
          Timeout: duration,
          StartPeriod: duration,
          StartInterval: duration,
          Retries: z.number().nullish(),
        })
        .nullish(),
    })
    .nullish(),
});

export type Index = z.infer<typeof indexSchema>;
export type ImageManifest = z.infer<typeof manifestSchema>;

const indexTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
];
export const manifestTypes = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
] as const;
/** For a registry's Accept header. */
export const documentTypes: readonly string[] = [...manifestTypes, ...indexTypes];

export const layerTypes: Readonly<Record<string, Compression>> = {
  "application/vnd.oci.image.layer.v1.tar": "none",
  "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
  "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
  "application/vnd.oci.image.layer.nondistributable.v1.tar": "none",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
  "application/vnd.docker.image.rootfs.diff.tar": "none",
  "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
};

/** JSON documents are small. */
export const maximumDocument = 4 << 20;

/** JSON of a known shape. Throws ImageError `oci/layout`. */
export function parseDocument<T>(text: string, name: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const issue = error instanceof z.ZodError ? error.issues[0] : undefined;
    const reason =
      issue === undefined ? messageOf(error) : `${issue.path.map(String).join(".")}: ${issue.message}`;
    throw new ImageError("oci/layout", `${name}: ${reason}`, { cause: error });
  }
}

const head = z.object({
  mediaType: z.string().nullish(),
  manifests: z.unknown().optional(),
  layers: z.unknown().optional(),
});

/**
 * An index or a manifest: by the type that the document states itself, else by `stated` (whoever served or named it),
 * else by its shape. Throws ImageError `oci/layout`, `oci/media-type`.
 */
export function parseIndexOrManifest(
  text: string,
  stated: string,
  name: string,
): { index: Index } | { manifest: ImageManifest } {
  const { mediaType, manifests, layers } = parseDocument(text, name, head);
  if (manifests !== undefined && layers !== undefined) {
    throw new ImageError("oci/layout", `${name} is an index and a manifest at the same time`);
  }
  const known = (type: string) => documentTypes.includes(type);
  const byShape = manifests === undefined ? manifestTypes[0] : indexTypes[0]!;
  const type = mediaType ?? (known(stated) || !isGeneric(stated) ? stated : byShape);
  if (!known(type)) {
    const isOld = type.startsWith("application/vnd.docker.distribution.manifest.v1");
    throw new ImageError("oci/media-type", `${name} is a '${type}', not an image`, {
      facts: [["supported", documentTypes.join(", ")]],
      ...(isOld && {
        fix: "push the image again with a current tool: this form is older than content digests",
      }),
    });
  }
  return indexTypes.includes(type)
    ? { index: parseDocument(text, name, indexSchema) }
    : { manifest: parseDocument(text, name, manifestSchema) };
}

/** What servers say that do not know what they serve. */
const isGeneric = (type: string): boolean =>
  type === "" || /^(?:application\/(?:json|octet-stream)|text\/plain)$/.test(type);

const tagOf = (one: Index["manifests"][number]): string | undefined =>
  one.annotations?.["org.opencontainers.image.ref.name"];

/** Statements about images (provenance, SBOM) stand beside them as images for no platform. */
const isAttestation = ({ platform, annotations }: Index["manifests"][number]): boolean =>
  annotations?.["vnd.docker.reference.type"] === "attestation-manifest" ||
  (platform?.os === "unknown" && platform.architecture === "unknown");

/**
 * Of an index, the one image for linux/amd64; `tag` names it among several of a layout. Images that say no platform
 * count when no other does, or when they are tagged. The same image under several tags is one.
 * Throws ImageError `oci/platform`, `oci/tag`.
 */
export function chooseImage({ manifests }: Index, name: string, tag?: string): Descriptor {
  const images = manifests.filter((one) => !isAttestation(one));
  const tags = [...new Set(images.map(tagOf).filter((one) => one !== undefined))];
  const wanted = tag === undefined ? images : images.filter((one) => tagOf(one) === tag);
  if (tag !== undefined && wanted.length === 0) {
    throw new ImageError("oci/tag", `${name} has no image with the tag '${tag}'`, {
      facts: [["tags", tags.join(", ") || "none"]],
    });
  }
  const unnamed = wanted.filter(({ platform }) => platform === undefined || platform === null);
  const named = wanted.filter(
    ({ platform }) => platform?.os === "linux" && platform.architecture === "amd64",
  );
  const baseline = named.filter(({ platform }) => (platform?.variant ?? "v1") === "v1");
  const fitting = [...(baseline.length > 0 ? baseline : named), ...unnamed.filter((one) => tagOf(one))];
  const candidates = new Map(
    (fitting.length > 0 ? fitting : unnamed).map((one) => [one.digest, one] as const),
  );
  const [chosen] = candidates.values();
  if (chosen === undefined || candidates.size > 1) {
    const offered = images.map(({ platform }) =>
      platform === undefined || platform === null ? "unnamed" : `${platform.os}/${platform.architecture}`,
    );
    const isTags = tag === undefined && tags.length > 1;
    throw new ImageError(
      "oci/platform",
      `${name} has ${candidates.size} images for linux/amd64; one is wanted`,
      {
        facts: [
          ["platforms", offered.join(", ") || "none"],
          ...(isTags ? [["tags", tags.join(", ")] as const] : []),
        ],
        ...(isTags && { fix: `name the tag: DIRECTORY:${tags[0]}` }),
      },
    );
  }
  const { mediaType, digest, size } = chosen;
  return { mediaType, digest, size };
}

/** The index of a layout. Throws ImageError `oci/layout`. */
export const parseIndex = (text: string, name: string): Index => parseDocument(text, name, indexSchema);

/**
 * The configuration of an image with so many layers. Throws ImageError `oci/layout`, `oci/platform`, `oci/config`.
 */
export function parseConfig(
  text: string,
  name: string,
  layers: number,
): { config: OciConfig; diffIds: string[] } {
  const document = parseDocument(text, name, configSchema);
  if (document.os !== "linux" || document.architecture !== "amd64") {
    throw new ImageError(
      "oci/platform",
      `the image is for ${document.os}/${document.architecture}, not for linux/amd64`,
    );
  }
  const diffIds = document.rootfs.diff_ids;
  if (diffIds.length !== layers) {
    throw new ImageError(
      "oci/config",
      `the manifest has ${layers} layers, but the configuration ${diffIds.length} diff IDs`,
    );
  }
  const stated = document.config ?? {};
  const { Healthcheck: check, StopSignal: stopSignal, Shell: shell } = stated;
  const config: OciConfig = {
    entrypoint: stated.Entrypoint ?? [],
    command: stated.Cmd ?? [],
    environment: environmentOf(stated.Env ?? []),
    workingDirectory: stated.WorkingDir ?? "",
    user: stated.User ?? "",
    exposedPorts: Object.keys(stated.ExposedPorts ?? {}).sort(),
    volumes: Object.keys(stated.Volumes ?? {}).sort(),
    ...(stopSignal && { stopSignal }),
    ...(shell && shell.length > 0 && { shell }),
    ...(check && { healthcheck: healthcheckOf(check) }),
    labels: { ...stated.Labels },
  };
  return { config, diffIds };
}

function environmentOf(variables: readonly string[]): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const variable of variables) {
    const equals = variable.indexOf("=");
    if (equals < 1 || variable.includes("\0")) {
      throw new ImageError(
        "oci/config",
        `the image's environment has the malformed entry ${JSON.stringify(variable)}`,
      );
    }
    environment[variable.slice(0, equals)] = variable.slice(equals + 1);
  }
  return environment;
}

type StatedCheck = NonNullable<NonNullable<z.infer<typeof configSchema>["config"]>["Healthcheck"]>;

/** Zero means "not stated", as in Docker's own reading. */
function healthcheckOf(check: StatedCheck): Healthcheck {
  const milliseconds = (nanoseconds: number | null | undefined) =>
    nanoseconds ? Math.max(1, Math.round(nanoseconds / 1e6)) : undefined;
  const stated = {
    intervalMs: milliseconds(check.Interval),
    timeoutMs: milliseconds(check.Timeout),
    startPeriodMs: milliseconds(check.StartPeriod),
    startIntervalMs: milliseconds(check.StartInterval),
    retries: check.Retries || undefined,
  };
  const given = Object.entries(stated).filter(([, value]) => value !== undefined);
  return { test: check.Test ?? [], ...Object.fromEntries(given) };
}
