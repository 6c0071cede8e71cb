// SPDX-License-Identifier: Apache-2.0
/**
 * `manifest.json`: what an image consists of, exactly, and where each part comes from.
 *
 * Invariants: a function of the inputs (no clock, no host, no path of the machine), so two builds of the same lock and
 * sources write the same bytes; every file of the image directory but the manifest itself is named with size and
 * SHA-256. Sizes are in bytes, hashes lower-case hex.
 */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type GuestConfig, parseGuestConfig } from "@caisson/protocol/guest-config";
import { hex } from "@caisson/protocol/hex";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { flavours } from "@caisson/vocabulary/flavours";
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";
import * as z from "zod/mini";
import { ImageError } from "../errors.ts";
import type { OciChange } from "../oci/layers.ts";
import type { Measurements } from "./measurements.ts";

/** The file that makes a directory an image. */
export const imageMark = "manifest.json";

/** One file of the image directory. */
export interface Artefact {
  /** Path in the image directory. */
  file: string;
  size: number;
  sha256: string;
}

/** What an image of a flavour boots on, unless it is told otherwise. */
export const flavourPlatform: Readonly<Record<Flavour, Platform>> = {
  production: "tdx",
  development: "emulated",
};

/** A platform's firmware: one file, or code with its variable store beside it. */
export interface FirmwareArtefacts {
  code: Artefact;
  variables?: Artefact;
}

export interface Manifest {
  schema: "caisson/manifest/v1";
  /** Which Caisson made it: its version, and the hash over the sources that decide an image's bytes (`sourcesHash`). */
  caisson: { version: string; sources: string };
  name: string;
  flavour: Flavour;
  /** Seconds since 1970: the newest archive date of the lock. It is the time of every file and the clock's floor. */
  sourceDate: number;
  /** SHA-256 of caisson.lock. */
  lock: string;
  /** Exactly what the kernel is started with. */
  commandLine: string;
  kernel: Artefact;
  rootfs: Artefact & {
    verity: { rootHash: string; salt: string; algorithm: "sha256"; blockSize: number; dataBlocks: number };
  };
  firmware: PlatformTable<FirmwareArtefacts> & { emulated: Required<FirmwareArtefacts> };
  sbom: Artefact;
  /** What PID 1 reads: `/etc/caisson/guest.json`. */
  guest: GuestConfig;
  /** Versions of what was put together: Debian packages, Node, and the npm packages in PID 1's bundle. */
  versions: {
    kernel: string;
    node: string;
    firmware: PlatformTable<string>;
    packages: Record<string, string>;
    npm: Record<string, string>;
  };
  /** SHA-256 of the Node binary as npm delivered it, before stripping. */
  node: string;
  /** The root outside the application, counted; how each program and library was hardened. */
  contents: {
    files: number;
    applicationFiles: number;
    /** What files and directories of a service's image had and here have not; paths are those of that image. */
    dropped: ({ service: string } & OciChange)[];
    executables: string[];
    hardening: Record<string, { pie: boolean; relro: string; stackProtected: boolean }>;
  };
  /** Registers that follow from the files alone; RTMR0 depends on the machine (`caisson measure`). */
  measurements?: Measurements;
}

const sha256 = hex(32);
const artefact = z.looseObject({
  // Plain names below the directory: no "..", no absolute path, nothing hidden.
  file: z
    .string()
    .check(z.regex(/^[A-Za-z0-9][\w.-]*(?:\/[A-Za-z0-9][\w.-]*)*$/, "not a file inside the directory")),
  size: z.int().check(z.gte(0)),
  sha256,
});

/** What readers of a manifest rely on; the rest is for people. */
const schema = z.looseObject({
  schema: z.literal("caisson/manifest/v1"),
  caisson: z.looseObject({ version: z.string(), sources: sha256 }),
  name: z.string(),
  flavour: z.enum(flavours),
  lock: sha256,
  commandLine: z.string(),
  kernel: artefact,
  rootfs: artefact,
  firmware: z.strictObject({
    emulated: z.strictObject({ code: artefact, variables: artefact }),
    tdx: z.strictObject({ code: artefact }),
  } satisfies PlatformTable<z.ZodMiniType>),
  sbom: artefact,
  guest: z.looseObject({}),
  versions: z.looseObject({
    firmware: z.looseObject({ emulated: z.string(), tdx: z.string() } satisfies PlatformTable<z.ZodMiniType>),
  }),
});

/** Checks the text of a manifest. Throws ImageError `image/manifest`. */
export function parseManifest(text: string, path: string): Manifest {
  try {
    const manifest = schema.parse(JSON.parse(text));
    parseGuestConfig(manifest.guest);
    return manifest as unknown as Manifest;
  } catch (error) {
    const issue = error instanceof z.core.$ZodError ? error.issues[0] : undefined;
    const reason = issue === undefined ? messageOf(error) : `${issue.path.join(".")}: ${issue.message}`;
    throw new ImageError("image/manifest", `${path} is not the manifest of an image: ${reason}`, {
      fix: "build the image again",
      cause: error,
    });
  }
}

/** The manifest in an image directory. Throws ImageError `image/missing`, `image/manifest`. */
export function readManifest(directory: string): Manifest {
  const path = join(directory, imageMark);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new ImageError("image/missing", `${directory} is not an image: it holds no ${imageMark}`, {
      kind: existsSync(directory) ? "input" : "usage",
      fix: "caisson build SPEC, then name what it wrote (out/<name>-<flavour>)",
      cause: error,
    });
  }
  return parseManifest(text, path);
}

/** Every file of the image directory but the manifest itself. */
export function artefacts({ kernel, rootfs, firmware, sbom }: Manifest): Artefact[] {
  const parts = Object.values(firmware).flatMap(({ code, variables }) =>
    variables === undefined ? [code] : [code, variables],
  );
  return [kernel, rootfs, ...parts, sbom];
}

/** The text of a manifest: two-space JSON in the order of its fields, one final newline. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}
