// SPDX-License-Identifier: Apache-2.0
/**
 * A unified kernel image from a stub, and a disk that a firmware starts it from: GPT, one EFI system partition with
 * FAT16, the image as its removable-media loader. Written here, so that the test knows every byte.
 */
import { crc32 } from "node:zlib";

const SECTOR = 512;
const align = (value: number, to: number) => Math.ceil(value / to) * to;

/** `stub` (a PE whose header has room) with further sections, each where the stub looks for it: by its name. */
export function unifiedImage(
  stub: Buffer,
  sections: readonly (readonly [name: string, content: Uint8Array])[],
): Buffer {
  const image = Buffer.alloc(
    sections.reduce((size, [, { length }]) => size + align(length, SECTOR), align(stub.length, SECTOR)),
  );
  stub.copy(image);
  const coff = image.readUInt32LE(0x3c) + 4;
  const optional = coff + 20;
  const count = image.readUInt16LE(coff + 2);
  const table = optional + image.readUInt16LE(coff + 16);
  const headers = image.readUInt32LE(optional + 60);
  if (table + 40 * (count + sections.length) > headers) throw new Error("the stub's header has no room");
  let raw = align(stub.length, SECTOR);
  let address = image.readUInt32LE(optional + 56); // SizeOfImage
  sections.forEach(([name, content], i) => {
    const at = table + 40 * (count + i);
    image.write(name, at, 8, "latin1");
    image.writeUInt32LE(content.length, at + 8);
    image.writeUInt32LE(address, at + 12);
    image.writeUInt32LE(align(content.length, SECTOR), at + 16);
    image.writeUInt32LE(raw, at + 20);
    image.writeUInt32LE(0x40000040, at + 36); // initialized data, readable
    image.set(content, raw);
    raw += align(content.length, SECTOR);
    address = align(address + content.length, 0x1000);
  });
  image.writeUInt16LE(count + sections.length, coff + 2);
  image.writeUInt32LE(address, optional + 56);
  return image;
}

const PARTITION = 2048;
const PARTITION_SECTORS = 65536;
/** Sectors after the partition: the second partition table. */
const TAIL = 33;

/** 33 MiB with `loader` as \EFI\BOOT\BOOTX64.EFI. */
export function bootDisk(loader: Uint8Array): Buffer {
  const disk = Buffer.alloc(SECTOR * (PARTITION + PARTITION_SECTORS + TAIL));
  const last = disk.length / SECTOR - 1;
  disk[0x1c2] = 0xee; // protective MBR
  disk.writeUInt32LE(1, 0x1c6);
  disk.writeUInt32LE(last, 0x1ca);
  disk.writeUInt16LE(0xaa55, 0x1fe);

  const entries = Buffer.alloc(128 * 128);
  entries.write("28732ac11ff8d211ba4b00a0c93ec93b", 0, "hex"); // EFI system partition
  entries.write("00112233445566778899aabbccddeeff", 16, "hex");
  entries.writeBigUInt64LE(BigInt(PARTITION), 32);
  entries.writeBigUInt64LE(BigInt(PARTITION + PARTITION_SECTORS - 1), 40);
  entries.write("boot", 56, "utf16le");
  for (const [own, other, table] of [
    [1, last, 2],
    [last, 1, last - 32],
  ] as const) {
    const header = Buffer.alloc(92);
    header.write("EFI PART", "latin1");
    header.writeUInt32LE(0x10000, 8);
    header.writeUInt32LE(92, 12);
    [own, other, 34, last - 33].forEach((value, i) => {
      header.writeBigUInt64LE(BigInt(value), 24 + 8 * i);
    });
    header.write("ffeeddccbbaa99887766554433221100", 56, "hex");
    header.writeBigUInt64LE(BigInt(table), 72);
    header.writeUInt32LE(128, 80);
    header.writeUInt32LE(128, 84);
    header.writeUInt32LE(crc32(entries), 88);
    header.writeUInt32LE(crc32(header), 16);
    header.copy(disk, own * SECTOR);
    entries.copy(disk, table * SECTOR);
  }
  fat16(loader).copy(disk, PARTITION * SECTOR);
  return disk;
}

/** Microsoft's FAT specification 1.03: clusters of 4 KiB, two tables of 32 sectors, 512 entries in the root directory. */
function fat16(loader: Uint8Array): Buffer {
  const volume = Buffer.alloc(SECTOR * PARTITION_SECTORS);
  const [perCluster, tableSectors, rootEntries] = [8, 32, 512];
  volume.write("eb3c9043414953534f4e20", 0, "hex");
  volume.writeUInt16LE(SECTOR, 11);
  volume.writeUInt8(perCluster, 13);
  volume.writeUInt16LE(1, 14);
  volume.writeUInt8(2, 16);
  volume.writeUInt16LE(rootEntries, 17);
  volume.writeUInt8(0xf8, 21);
  volume.writeUInt16LE(tableSectors, 22);
  volume.writeUInt32LE(PARTITION, 28);
  volume.writeUInt32LE(PARTITION_SECTORS, 32);
  volume.writeUInt8(0x80, 36);
  volume.writeUInt8(0x29, 38);
  volume.write("BOOT       FAT16   ", 43, "latin1");
  volume.writeUInt16LE(0xaa55, 510);

  const clusterSize = perCluster * SECTOR;
  const root = SECTOR * (1 + 2 * tableSectors);
  const data = root + 32 * rootEntries;
  const entry = (at: number, name: string, directory: boolean, cluster: number, size = 0) => {
    volume.write(name.padEnd(11), at, "latin1");
    volume.writeUInt8(directory ? 0x10 : 0x20, at + 11);
    volume.writeUInt16LE(cluster, at + 26);
    volume.writeUInt32LE(size, at + 28);
  };
  const cluster = (number: number) => data + (number - 2) * clusterSize;
  entry(root, "EFI", true, 2);
  entry(cluster(2), ".", true, 2);
  entry(cluster(2) + 32, "..", true, 0);
  entry(cluster(2) + 64, "BOOT", true, 3);
  entry(cluster(3), ".", true, 3);
  entry(cluster(3) + 32, "..", true, 2);
  entry(cluster(3) + 64, "BOOTX64 EFI", false, 4, loader.length);
  volume.set(loader, cluster(4));

  const end = 4 + Math.ceil(loader.length / clusterSize);
  for (const table of [SECTOR, SECTOR * (1 + tableSectors)]) {
    [0xfff8, 0xffff, 0xffff, 0xffff].forEach((value, i) => {
      volume.writeUInt16LE(value, table + 2 * i);
    });
    for (let i = 4; i < end; i++) volume.writeUInt16LE(i + 1 === end ? 0xffff : i + 1, table + 2 * i);
  }
  return volume;
}
