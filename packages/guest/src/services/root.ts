// SPDX-License-Identifier: Apache-2.0
/**
 * The root that a contained service sees: the image's, with its ids in the service's range, and over it a layer in
 * memory that takes what it writes, up to a limit. Volumes are file systems in memory, with the ids of the image, so
 * that services can share one.
 */

import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { AppDescription, Service } from "@caisson/protocol/guest-config";
import { MS, type Syscalls } from "../syscalls.ts";
import { mountOf } from "../volumes/open.ts";
import { insideRoot, outsideId, type Place } from "./place.ts";

const quiet = MS.nosuid | MS.nodev;

/** Makes the root at `place.root`. `userNamespace` is a descriptor. */
export function mountRoot(syscalls: Syscalls, place: Place, service: Service, userNamespace: number): void {
  for (const directory of [place.lower, place.layer, place.root]) mkdirSync(directory, { mode: 0o711 });
  if (service.readOnly) {
    syscalls.mountMapped(service.root, place.root, userNamespace);
    return;
  }
  syscalls.mountMapped(service.root, place.lower, userNamespace);
  const options = `mode=711,size=${service.layerSize}`;
  syscalls.mount("tmpfs", place.layer, "tmpfs", quiet | MS.noexec, options);
  const [upper, work] = [join(place.layer, "upper"), join(place.layer, "work")];
  mkdirSync(upper);
  mkdirSync(work, { mode: 0o700 });
  // The merged root directory has the upper's owner and mode.
  const { mode, uid, gid } = statSync(service.root);
  chmodSync(upper, mode & 0o7777);
  chownSync(upper, outsideId(service, uid), outsideId(service, gid));
  const layers = `lowerdir=${place.lower},upperdir=${upper},workdir=${work}`;
  syscalls.mount("overlay", place.root, "overlay", quiet, layers);
}

/** Where volumes lie: those in memory are made here, persistent ones were put here before. */
export const volumeDirectory = "/run/volumes";

/** What a volume may hold when nothing is said: the largest memory limit of the services that have it. */
function sizeOf(app: AppDescription, volume: string): number {
  const declared = app.volumes[volume]?.size;
  if (declared !== undefined) return declared;
  const limits = Object.values(app.services)
    .filter(({ mounts }) => mounts.some((mount) => mount.volume === volume))
    .map(({ memory }) => memory);
  return Math.max(4096, ...limits);
}

export interface VolumeMount {
  target: string;
  source: string;
  readOnly: boolean;
}

/** The volumes of a service, each made when the first service needs it and seen with the service's ids. */
export async function mountVolumes(
  syscalls: Syscalls,
  app: AppDescription,
  place: Place,
  service: Service,
  userNamespace: number,
): Promise<VolumeMount[]> {
  mkdirSync(volumeDirectory, { recursive: true, mode: 0o711 });
  const mounted: VolumeMount[] = [];
  for (const [index, { volume, target, readOnly, copyUp }] of service.mounts.entries()) {
    const source = join(volumeDirectory, volume ?? `${place.name}:${index}`);
    if (!made(source)) {
      mkdirSync(source, { mode: 0o755 });
      const size = volume === undefined ? service.memory : sizeOf(app, volume);
      syscalls.mount("tmpfs", source, "tmpfs", quiet, `mode=755,size=${size}`);
    }
    const image = insideRoot(service.root, target);
    const kept = volume !== undefined && app.volumes[volume]?.persistent !== undefined;
    if (copyUp && image !== undefined)
      await begin(syscalls, source, image, kept ? mountOf(volume) : undefined);
    const seen = join(place.directory, `volume-${index}`);
    mkdirSync(seen, { mode: 0o711 });
    syscalls.mountMapped(source, seen, userNamespace);
    mounted.push({ target, source: seen, readOnly });
  }
  return mounted;
}

/**
 * An empty volume begins with what the image has there. On a persistent one, which is mounted whole at `mount`, a mark
 * stands beside it until the copy is on the disk: one that a crash cut short is begun anew.
 */
export async function begin(
  syscalls: Pick<Syscalls, "btrfsCommit">,
  volume: string,
  image: string,
  mount: string | undefined,
): Promise<void> {
  const mark = mount && join(mount, "filling");
  if (mark !== undefined && existsSync(mark)) {
    for (const name of readdirSync(volume)) rmSync(join(volume, name), { recursive: true });
  }
  if (readdirSync(volume).length > 0) return;
  if (mark === undefined) return fill(volume, image);
  writeFileSync(mark, "");
  fill(volume, image);
  await syscalls.btrfsCommit(mount!);
  rmSync(mark);
}

/** The persistent volumes of a plain service, which has no ids of its own: a new volume becomes its user's. */
export function plainVolumes({ mounts, user, group }: Service): VolumeMount[] {
  return mounts.flatMap(({ volume, target, readOnly }) => {
    if (volume === undefined) return [];
    const source = join(volumeDirectory, volume);
    if (statSync(source).uid === 0) chownSync(source, user, group);
    return { target, source, readOnly };
  });
}

const made = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined;

/** Content, owner and mode of the image's directory, where it has one: what an empty volume begins with. */
function fill(volume: string, image: string): void {
  const from = lstatSync(image, { throwIfNoEntry: false });
  if (from?.isDirectory() !== true) return;
  cpSync(image, volume, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  keepOwners(image, volume);
}

/** Copying keeps modes and not owners. */
function keepOwners(from: string, to: string): void {
  const { uid, gid, mode } = lstatSync(from);
  lchownSync(to, uid, gid);
  if (!lstatSync(to).isSymbolicLink()) chmodSync(to, mode & 0o7777);
  if (!lstatSync(from).isDirectory()) return;
  for (const name of readdirSync(from)) keepOwners(join(from, name), join(to, name));
}
