// SPDX-License-Identifier: Apache-2.0
/**
 * One import in a process of its own, so that its memory is its own: makes an OCI layout of so many MiB (files of 3 kB
 * to 40 MiB, half of their bytes random, gzip), then imports it, lays it out and writes file system and hash tree.
 * Arguments: a directory, MiB. Prints JSON: seconds of all after the making, peak memory in MiB.
 */
import { createHash, randomBytes } from "node:crypto";
import { createWriteStream, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { layoutErofs } from "@caisson/image/erofs";
import { openImage } from "@caisson/image/open";
import { tarHeader } from "@caisson/image/tar-writer";
import { VerityHasher } from "@caisson/image/verity";

const MiB = 2 ** 20;
const noise = randomBytes(MiB);
const zeros = Buffer.alloc(MiB);

/** Nine of ten files are small, and one in a hundred has 40 MiB. */
const sizeOf = (n: number): number =>
  n % 100 < 90 ? 3000 + ((n * 37) % 20_000) : n % 100 < 99 ? 300_000 : 40 * MiB;

function* archive(bytes: number): Generator<Buffer> {
  let made = 0;
  for (let n = 0; made < bytes; n++) {
    const size = sizeOf(n);
    yield Buffer.from(tarHeader({ path: `d${n % 200}/f${n}`, type: "0", size }));
    for (let left = size, part = n; left > 0; part++) {
      const chunk = Buffer.from((part % 2 === 0 ? noise : zeros).subarray(0, Math.min(left, MiB)));
      chunk.write(`${n} ${part}`);
      yield chunk;
      left -= chunk.length;
    }
    yield zeros.subarray(0, (512 - (size % 512)) % 512);
    made += size;
  }
  yield zeros.subarray(0, 1024);
}

async function makeLayout(directory: string, bytes: number): Promise<void> {
  const blobs = join(directory, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const [plain, packed] = [createHash("sha256"), createHash("sha256")];
  const temporary = join(directory, "layer");
  await pipeline(
    function* () {
      for (const chunk of archive(bytes)) {
        plain.update(chunk);
        yield chunk;
      }
    },
    createGzip({ level: 1 }),
    async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        packed.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(temporary),
  );
  const [diffId, digest] = [plain.digest("hex"), packed.digest("hex")];
  const { size } = statSync(temporary);
  renameSync(temporary, join(blobs, digest));
  const put = (mediaType: string, value: object) => {
    const text = Buffer.from(JSON.stringify(value));
    const name = createHash("sha256").update(text).digest("hex");
    writeFileSync(join(blobs, name), text);
    return { mediaType, digest: `sha256:${name}`, size: text.length };
  };
  const config = put("application/vnd.oci.image.config.v1+json", {
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: [`sha256:${diffId}`] },
  });
  const layers = [
    { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: `sha256:${digest}`, size },
  ];
  const manifest = put("application/vnd.oci.image.manifest.v1+json", { schemaVersion: 2, config, layers });
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
}

const [place, size] = process.argv.slice(2);
const layout = join(place!, "layout");
await makeLayout(layout, Number(size) * MiB);
const start = performance.now();
const reference = { kind: "local", path: layout } as const;
const { tree } = await openImage(reference, {}, { cache: join(place!, "cache"), environment: {} });
const hasher = new VerityHasher();
const out = await open(join(place!, "rootfs.img"), "w");
for (const chunk of layoutErofs(tree, 1_793_491_200).chunks()) {
  hasher.update(chunk);
  await out.writeFile(chunk);
}
await out.writeFile(hasher.finish().bytes);
await out.close();
const seconds = (performance.now() - start) / 1000;
process.stdout.write(JSON.stringify({ seconds, mebibytes: process.resourceUsage().maxRSS / 1024 }));
