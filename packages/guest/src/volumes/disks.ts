// SPDX-License-Identifier: Apache-2.0
/** The disks of an image's persistent volumes, before there are keys for them. */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { type AppDescription, persistentVolumes } from "@caisson/protocol/guest-config";
import type { Ticket } from "@caisson/protocol/volumes";
import { volumePath } from "@caisson/vocabulary/disks";
import { VolumeError } from "./errors.ts";
import { readTicket } from "./reserved.ts";

/** A volume's disk, and what the KMS last said about it as the disk has it. */
export interface VolumeDisk {
  name: string;
  device: string;
  ticket: Ticket | undefined;
  nextPlace: 0 | 1;
}

/** Reads the tickets of `identity` (32 bytes) from the disks of all volumes. Throws VolumeError `volume/missing`. */
export async function findDisks(app: AppDescription, identity: Uint8Array): Promise<VolumeDisk[]> {
  const disks: VolumeDisk[] = [];
  for (const [index, name] of persistentVolumes(app).entries()) {
    const device = volumePath(index);
    if (!existsSync(device)) {
      throw new VolumeError("volume/missing", `there is no disk ${device} for volume '${name}'`);
    }
    const file = await open(device);
    try {
      const { ticket, next } = await readTicket(file, identity);
      disks.push({ name, device, ticket, nextPlace: next });
    } finally {
      await file.close();
    }
  }
  return disks;
}
