// SPDX-License-Identifier: Apache-2.0
/** The guest's disks by role. Host and guest agree on them by this list alone: these, then one for each volume. */

/** In the order in which the host attaches them and the kernel finds them. */
export const disks = ["root", "instance"] as const;
export type Disk = (typeof disks)[number];

const nth = (index: number): string => `/dev/vd${String.fromCharCode("a".charCodeAt(0) + index)}`;

/** The block device of a disk in the guest: `/dev/vda` for the first. */
export const diskPath = (disk: Disk): string => nth(disks.indexOf(disk));

/** The block device of a persistent volume, by its place in the sorted list of their names. */
export const volumePath = (index: number): string => nth(disks.length + index);
