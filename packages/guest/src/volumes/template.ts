// SPDX-License-Identifier: Apache-2.0
/**
 * An empty file system of 128 MiB: the superblock and nine leaves of what mkfs.btrfs writes with
 * `-m single -d single --csum sha256 -n 4096`, its times zero and its ids these. A volume begins as a copy with ids of its
 * own. Made once by mkfs.btrfs 6.2; that the guest's kernel takes it: test/attacks/volumes.test.ts.
 */
import { inflateRawSync } from "node:zlib";
import { type Block, blockSize, type FileSystemIds, withIds } from "./btrfs.ts";

/** Recognizable: nothing else in the template has these bytes. */
const placeholders: FileSystemIds = {
  fsid: new Uint8Array(16).fill(0xf1),
  device: new Uint8Array(16).fill(0xd2),
  chunkTree: new Uint8Array(16).fill(0xc3),
};

/** Bytes of the device that it needs. */
export const templateSize = 128 * 2 ** 20;

/** Raw deflate of, for each block, its place (u64, little endian) and its bytes. */
const packed =
  "7Z1tTBxFGMdn74Xj4HosthY/KF6l1BQixfhBG6o9oNpqU7PaVoxieJGXSBshkTZgolIg2hZrrrVNi9YCMcYgWo/4hi3KBVI0tSKiRpsWY0q1QSHY" +
  "gKIFg4Hdmdud5bhrQcrh/5dwu3v/mWdnZ5/dzDw3MxAikHHM6fY3D3aLW/vdi9fe1DS69NnhkLN707atSHv6gdSKLze/dZGDKPnkT0IyUtY9mLcx" +
  "Y0MIoUjyRhSJD0InPl3yAc1H7RFR+5c1XkbOgFHZJis7Bo0BegLiFHQGp6SLQ3/p4H+N4mLnvb7k9PqfKoVhEl8WNC4qTupwqGEAAABg7pEoN21Z" +
  "c1Rp4rLjMk53cMdO7tjFHXNNY+GKCyppmta6coqcfrXKqZzHyDWLjFy52LHEHYu8LpJJewJFM1OfJl/lzOT0q1ZOAK7QuVObm2sb9vcUe74aSyre" +
  "0LKo/NsXR2N+vuvS8q5/dtz5wrkSfWdYUjur0MbB9+vD1R2jSnru8wsI+UjwPjpMuMUmC/SdY6P2rrcREql6GbEcuWFyDl1A4YSVkFrV646Z+thK" +
  "iE0lbOpqbdkzvrPfSkgsIcTCn6PbIp/DygvLQmQhjBcKTbIwPCbDhCaDLAAwbcxchIK4JW0CccqAhk9z8yNewzD6qA51uv7k2StfiO5VPK3bFoIH" +
  "YXafNooHT1sQPG26enbhtqkbUkoLZcwrWYghJzcva9vWYvqNgSQkGH1ZmiP3OWj8UNB2c6fph+l1DdHpdXefPCLvNASrP1qI4nNB9z5x4n0SjI0u" +
  "EY0u4g0S9grpJwoqM5I/f2zpqr/ajlSUty1ct6X/hp6O+F8XHc8viNbFAURxyjiAmXMDk7ouf6A7KyMIySaT/MTaa1cCDV5Bvl3VeqFzYudeOxuC" +
  "AAAAAAAAAABg/lA28cmPwBU0x4IyAldQfS93FvUjcCe3Z/JrT/Jhb2ZHCM/CIHclHBKe81LUUwcv3tPRsXphb2NO7tu32i/VSe1p9fWl78QXpJ71" +
  "lc/feAB65Tb1ZXpoPVVEEHKdKhpRT4udHUHIElVFMyGZEzz0Fi5nprgcoTSHgxMu2BXByQntVJA44Q0quDihkgpuTnicCh5OSKGC4pnsOuLsynUE" +
  "LFipkClXopuOShi0a72V5TjDTAEAAAAAAADADCFoNmxrnrEEtHvptvpLQEdk+0xg4SzwPVjWrfJpweQvgdnfKQzaMAdLafKX0W/96IZlCNoEtBO8" +
  "qjT1yb0nl/U1p8Q0ursPV3zzfl1nTOQX/TeH7rhmLOG1WF0cwDl1HIAWhF6BUV3KU7Q4WyIISdQKstkkvSD3fsMVAQAAAAAAAAAACAaMXKCD9m9p" +
  "CIDvT+vTS5eZXruWGZ+e/kqeZywoXtN73x8Ow9efdjpuP15827HyodjfT+c376zZ98yfG3VxAEdgcQBtYIKL7pARuzx3n35jozsDdjaEAAAAAAAA" +
  "AAAACA6CYVUVOsT9zGjVkg93b1/ZHT1Smy91tO563VjYuqulZ3HfQPW+qH2SLg7gCiwOYIEbAAAAAAAAAAAAcwdl4voFW8nwB9nn4sLCzc+/e7py" +
  "QfXQq3vWb1pzIHptfNn6nNIndHEAT2BxAM28Dbqm6Qhd1PTlCLbwAQAAAAAAAAAAAP4z2EoMylp478V//9Cxpsijh4o+GahxPZyU9duBvqGxmhVx" +
  "px658Zfkxr91cQApsHUCw7RbeRREO52l4I0DyMJndJjEuDCBgwo/rdYKyvyIdjpBooqaUv67KzNVRXNkUiGRE2p95ehkOZ7TCspkDnbyCnYdnUoO" +
  "lQAAAAAAAAAAAMw6dN4BXbePrROorHB/f0nh4b6jg+2jm4sykypfkQYzs9t+rN0Zujvq2p47vnt0uy4O4A5sPABdphHrAwAAAAAAAAAAmO+Mrw9g" +
  "vsx+Opnl9QH+BQ==";

/** All blocks of an empty file system with these ids. */
export function emptyFileSystem(ids: FileSystemIds): Block[] {
  const bytes = inflateRawSync(Buffer.from(packed, "base64"));
  const blocks: Block[] = [];
  for (let at = 0; at < bytes.length; at += 8 + blockSize) {
    const block = {
      at: Number(bytes.readBigUInt64LE(at)),
      bytes: bytes.subarray(at + 8, at + 8 + blockSize),
    };
    blocks.push(withIds(block, placeholders, ids));
  }
  return blocks;
}
