// SPDX-License-Identifier: Apache-2.0
/**
 * From parts to the files of an image, the manifest last. No part is fetched, compiled or looked for here, and nothing
 * but the parts decides a byte: no clock, no path, no environment.
 */

import { createHash, hash } from "node:crypto";
import { mkdir, open, readFile, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { type GuestConfig, parseGuestConfig } from "@caisson/protocol/guest-config";
import type { Flavour } from "@caisson/vocabulary/flavours";
import type { PlatformTable } from "@caisson/vocabulary/platforms";
import type { Application } from "../build/application.ts";
import type { Bundle } from "../build/bundle.ts";
import { commandLine, commandLineTokens } from "../build/cmdline.ts";
import { kernelVariant } from "../build/kernel.ts";
import type { NodeBinary } from "../build/native.ts";
import { addApplication, type Root, readPackageFile } from "../build/rootfs.ts";
import { walk } from "../build/tree.ts";
import { formatLock, type Lock, type LockedPackage } from "../inputs/lock.ts";
import type { LockedNpmPackage } from "../inputs/npm.ts";
import { firmwareFiles, firmwareGroups, type Group } from "../inputs/recipe.ts";
import type { Spec } from "../inputs/spec.ts";
import { type Erofs, layoutErofs } from "./erofs.ts";
import { type Artefact, formatManifest, imageMark, type Manifest } from "./manifest.ts";
import type { MeasuredFiles, Measurements } from "./measurements.ts";
import { sbom, version } from "./sbom.ts";
import { eraseVariables } from "./variable-store.ts";
import { VerityHasher, type VerityTree, verityBlockSize, veritySalt } from "./verity.ts";

export interface Parts {
  spec: Spec;
  lock: Lock;
  flavour: Flavour;
  /** Path of the kernel (bzImage). */
  kernel: string;
  node: NodeBinary;
  bundle: Bundle;
  /** The front's program, where the description has a front. */
  front?: Bundle;
  /** The first process of services with `init`, where there are some. */
  serviceInit?: Uint8Array;
  /** The root without the application; its tree is taken over. */
  system: Root;
  application: Application;
  /** Path of each locked package's archive. */
  archive: (locked: LockedPackage) => string;
  /** `sourcesHash` of this repository. */
  sources: string;
  /** Names of licences by "name version" of a package, Debian's and npm's. */
  licences: ReadonlyMap<string, readonly string[]>;
  /** The npm packages that make what enters the image. */
  builders: readonly LockedNpmPackage[];
  /** `predictMeasurements`, which wants real firmware and a real kernel; or a test's. */
  measure: (files: MeasuredFiles) => Promise<Measurements>;
}

export interface AssembleOptions {
  /** Bytes of the root file system that are written, of all. */
  onBytes?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** Seconds since 1970: the newest archive of the lock. Nothing in the image is older, and no guest's clock may be. */
export function sourceDate(lock: Lock): number {
  return Math.max(...lock.suites.map(({ date }) => Date.parse(date) / 1000));
}

/** Groups whose packages are containers of files that lie beside the root. */
const containers: ReadonlySet<Group> = new Set<Group>(["source", ...Object.values(firmwareGroups)]);

/** The lock's packages of one group. */
export const inGroup = (lock: Lock, group: Group): LockedPackage[] =>
  lock.packages.filter(({ groups }) => groups.includes(group));

/** Writes the image into an empty directory. Throws ImageError of `root/…`, `app/…`, `erofs/…`, `cmdline/…`. */
export async function assemble(
  parts: Parts,
  directory: string,
  options: AssembleOptions = {},
): Promise<Manifest> {
  const { spec, lock, flavour, node, system, application } = parts;
  const epoch = sourceDate(lock);
  const guest = guestConfig(parts, epoch);
  const root = addApplication(system, application, guest, {
    ...(parts.front && { front: parts.front.code }),
    ...(parts.serviceInit && { serviceInit: parts.serviceInit }),
  });
  const layout = layoutErofs(root.tree, epoch);
  const { verity, ...rootfs } = await writeRoot(directory, layout, options);

  const { packages, npm } = contained(parts, root);
  const bom = sbom({
    name: spec.name,
    flavour,
    sourceDate: epoch,
    root,
    digests: layout.digests,
    packages,
    npm,
    toolchain: { packages: inGroup(lock, "toolchain"), npm: parts.builders },
    licences: parts.licences,
    sources: parts.sources,
    services: application.roots.map(({ path, image, services }) => ({
      names: services,
      place: posix.dirname(path),
      digest: image.digest,
    })),
  });
  const manifest: Manifest = {
    schema: "caisson/manifest/v1",
    caisson: { version, sources: parts.sources },
    name: spec.name,
    flavour,
    sourceDate: epoch,
    lock: hash("sha256", formatLock(lock)),
    commandLine: commandLine(flavour, verity, kernelVariant(guest.app)),
    kernel: await writeArtefact(directory, "kernel", await readFile(parts.kernel)),
    rootfs: { ...rootfs, verity: verityOf(verity) },
    firmware: await writeFirmware(parts, directory),
    sbom: await writeArtefact(directory, "sbom.cdx.json", Buffer.from(bom)),
    guest,
    versions: versions(lock, node, packages, npm),
    node: node.delivered,
    contents: contents(root, application.roots),
  };
  manifest.measurements = await parts.measure(await measuredFiles(directory, manifest));
  await writeFile(join(directory, imageMark), formatManifest(manifest));
  return manifest;
}

/** What the guest's dm-verity target is told. */
const verityOf = ({ rootHash, dataBlocks }: VerityTree): Manifest["rootfs"]["verity"] => ({
  rootHash,
  salt: veritySalt.toString("hex"),
  algorithm: "sha256",
  blockSize: verityBlockSize,
  dataBlocks,
});

/** Versions of what runs in the image and what it starts from. */
function versions(
  lock: Lock,
  node: Parts["node"],
  packages: readonly LockedPackage[],
  npm: readonly { name: string; version: string }[],
): Manifest["versions"] {
  const versionOf = (group: Group) => inGroup(lock, group)[0]!.version;
  const byName = (list: readonly { name: string; version: string }[]) =>
    Object.fromEntries(list.map(({ name, version }) => [name, version]));
  return {
    kernel: versionOf("source"),
    node: node.version,
    firmware: {
      emulated: versionOf(firmwareGroups.emulated),
      tdx: versionOf(firmwareGroups.tdx),
    } satisfies PlatformTable<string>,
    packages: byName(packages.filter(({ groups }) => groups.includes("root"))),
    npm: byName(npm),
  };
}

/** Of the files that were just written, those that firmware and kernel will measure. */
async function measuredFiles(directory: string, manifest: Manifest): Promise<MeasuredFiles> {
  const { kernel, firmware, commandLine, versions } = manifest;
  const bytes = async ({ file }: Artefact) => new Uint8Array(await readFile(join(directory, file)));
  return {
    kernel: await bytes(kernel),
    commandLine,
    firmware: {
      tdx: { code: await bytes(firmware.tdx.code), version: versions.firmware.tdx },
      emulated: {
        code: await bytes(firmware.emulated.code),
        variables: await bytes(firmware.emulated.variables),
        version: versions.firmware.emulated,
      },
    },
  };
}

/** What PID 1 is told, and what is measured with the root. */
function guestConfig({ spec, flavour, application }: Parts, epoch: number): GuestConfig {
  return parseGuestConfig({
    version: "caisson/guest/v1",
    flavour,
    epoch,
    commandLine: commandLineTokens(flavour, kernelVariant(application.description)).map(({ token }) => token),
    app: application.description,
    time: spec.time,
    ...(spec.kms.identity !== undefined && { kms: { identity: spec.kms.identity } }),
  });
}

/** The locked packages that something in the image comes from: Debian's and npm's. */
function contained({ lock, bundle, front }: Parts, { origins }: Root) {
  const used = new Set(origins.values());
  const bundled = new Set([bundle, front].flatMap((one) => one?.packages.map(({ name }) => name) ?? []));
  return {
    packages: lock.packages.filter(
      ({ name, version, groups }) =>
        used.has(`${name} ${version}`) || groups.some((group) => containers.has(group)),
    ),
    npm: lock.npm.filter(({ name }) => used.has(name) || bundled.has(name)),
  };
}

async function writeFirmware({ lock, archive }: Parts, directory: string): Promise<Manifest["firmware"]> {
  await mkdir(join(directory, "firmware"));
  const written = new Map<string, Artefact>();
  for (const { name, group, source } of firmwareFiles) {
    const locked = inGroup(lock, group)[0]!;
    const delivered = await readPackageFile(archive(locked), source, locked);
    const content = group === "firmware-tdx" ? eraseVariables(delivered) : delivered;
    written.set(name, await writeArtefact(directory, `firmware/${name}`, content));
  }
  return {
    emulated: { code: written.get("emulated-code.fd")!, variables: written.get("emulated-variables.fd")! },
    tdx: { code: written.get("tdx.fd")! },
  };
}

async function writeArtefact(directory: string, file: string, content: Uint8Array): Promise<Artefact> {
  await writeFile(join(directory, file), content);
  return { file, size: content.length, sha256: hash("sha256", content) };
}

/** Writes file system and hash tree in one pass. */
async function writeRoot(
  directory: string,
  layout: Erofs,
  { onBytes, signal }: AssembleOptions,
): Promise<Artefact & { verity: VerityTree }> {
  const hasher = new VerityHasher();
  const sum = createHash("sha256");
  const file = await open(join(directory, "rootfs.img"), "wx");
  try {
    let size = 0;
    const append = async (bytes: Buffer) => {
      sum.update(bytes);
      await file.writeFile(bytes);
      size += bytes.length;
    };
    for (const chunk of layout.chunks()) {
      signal?.throwIfAborted();
      hasher.update(chunk);
      await append(chunk);
      onBytes?.(size, layout.blocks * verityBlockSize);
    }
    const verity = hasher.finish();
    await append(verity.bytes);
    return { file: "rootfs.img", size, sha256: sum.digest("hex"), verity };
  } finally {
    await file.close();
  }
}

function contents({ tree, origins, elf }: Root, roots: Application["roots"]): Manifest["contents"] {
  const nodes = [...walk(tree)].filter(([, node]) => node.kind === "file");
  const own = nodes.filter(([path]) => origins.has(path));
  return {
    files: own.length,
    applicationFiles: nodes.length - own.length,
    dropped: roots.flatMap(({ image, services }) =>
      image.changes.map((change) => ({ service: services[0]!, ...change })),
    ),
    executables: own.flatMap(([path, node]) =>
      node.kind === "file" && (node.mode & 0o111) !== 0 ? [path] : [],
    ),
    hardening: Object.fromEntries(
      [...elf].map(([path, { pie, relro, stackProtected }]) => [path, { pie, relro, stackProtected }]),
    ),
  };
}
