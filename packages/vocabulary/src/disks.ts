// SPDX-License-Identifier: Apache-2.0
/** The guest's disks by role. Host and guest agree on them by this list alone. */

/** In the order in which the host attaches them and the kernel finds them. */
export const disks = ["root", "instance"] as const;
export type Disk = (typeof disks)[number];

/** The block device of a disk in the guest: `/dev/vda` for the first. */
export function diskPath(disk: Disk): string {
  return `/dev/vd${String.fromCharCode("a".charCodeAt(0) + disks.indexOf(disk))}`;
}
