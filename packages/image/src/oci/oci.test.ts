// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { bytesOf } from "../build/content.ts";
import { lookup, walk } from "../build/tree.ts";
import { ImageError, type ImageErrorCode } from "../errors.ts";
import { makeImage, type TestImage } from "../testing/archive.ts";
import type { Descriptor } from "./documents.ts";
import { importImage, type OciImage, type ReadLayers } from "./oci.ts";
import { openLayout } from "./oci-layout.ts";
import { type TarFile, tarHeader, writeTar } from "./tar-writer.ts";

const file = (path: string, text = path, mode = 0o644): TarFile => ({
  path,
  mode,
  content: Buffer.from(text),
});
const folder = (path: string, mode = 0o755): TarFile => ({ path, mode, content: "directory" });
const link = (path: string, symlink: string): TarFile => ({ path, mode: 0o777, content: { symlink } });
const tar = (...files: TarFile[]) => Buffer.concat([...writeTar(files)]);

const load = ({ descriptor, blobs }: TestImage): Promise<OciImage> =>
  importImage({
    descriptor,
    open: async ({ digest }) => ({ chunks: [blobs.get(digest) ?? Buffer.alloc(0)] }),
  });
/** With what other images have read; `opened` gets the digests of blobs. */
const loadBeside = (
  { descriptor, blobs }: TestImage,
  known: ReadLayers,
  opened: string[],
): Promise<OciImage> =>
  importImage(
    {
      descriptor,
      open: async ({ digest }) => {
        opened.push(digest);
        return { chunks: [blobs.get(digest)!] };
      },
    },
    undefined,
    known,
  );
const layers = (...archives: Uint8Array[]) => load(makeImage(archives));

/** The tree as text: one line a node. */
function listing(image: OciImage): string[] {
  return [...walk(image.tree)].map(([path, node]) =>
    node.kind === "file"
      ? `${path} ${node.mode.toString(8)} ${Buffer.from(bytesOf(node.content)).toString()}`
      : node.kind === "symlink"
        ? `${path} -> ${node.target}`
        : `${path}/ ${node.mode.toString(8)}`,
  );
}

test("layers lie over each other: replaced, changed and removed", async () => {
  const image = await layers(
    tar(
      folder("etc"),
      file("etc/a", "1"),
      file("etc/b", "1"),
      folder("var/old"),
      file("var/old/x"),
      link("lib", "usr/lib"),
    ),
    tar(folder("etc", 0o700), file("etc/a", "2", 0o755), file("etc/.wh.b", ""), file("var/.wh.old", "")),
    tar(file("etc/b", "3"), folder("lib"), file("lib/c")),
  );
  deepEqual(listing(image), [
    "/etc/ 700",
    "/etc/a 755 2",
    "/etc/b 644 3",
    "/lib/ 755",
    "/lib/c 644 lib/c",
    "/var/ 755",
  ]);
});

test("images with a layer in common read it once, and are what they are alone", async () => {
  const base = tar(folder("etc"), file("etc/a"), file("etc/b"), link("c", "etc/a"), file("empty", ""));
  const images = [
    makeImage([base, tar(file("etc/a", "another"))]),
    makeImage([base, tar(file("etc/.wh.b", ""), file("d"))]),
    makeImage([tar(folder("etc", 0o700), file("etc/z")), base]),
  ];
  const known: ReadLayers = new Map();
  const opened: string[] = [];
  for (const image of images)
    deepEqual(listing(await loadBeside(image, known, opened)), listing(await load(image)));
  equal(opened.length, new Set(opened).size);
  equal(known.size, 4);
});

test("a layer that was not read whole is not known", async () => {
  const image = makeImage([tar(file("a")), tar(file("b"))]);
  const layer = [...image.blobs].find(([, bytes]) => bytes.length >= 1024 && bytes[0] === 0x62)![0];
  const cut = new Map(image.blobs).set(layer, image.blobs.get(layer)!.subarray(0, 512));
  const known: ReadLayers = new Map();
  await rejects(loadBeside({ ...image, blobs: cut }, known, []), ImageError);
  deepEqual(listing(await loadBeside(image, known, [])), listing(await load(image)));
});

test("an opaque directory hides what lies below, wherever the whiteout stands in its layer", async () => {
  const image = await layers(
    tar(file("d/old"), file("d/sub/old")),
    tar(folder("d"), file("d/new"), file("d/.wh..wh..opq", "")),
  );
  deepEqual(listing(image), ["/d/ 755", "/d/new 644 d/new"]);
});

test("a whiteout beside a file of the same name removes only the lower one", async () => {
  const image = await layers(tar(file("d/x/deep")), tar(file("d/x", "new"), file("d/.wh.x", "")));
  deepEqual(listing(image), ["/d/ 755", "/d/x 644 new"]);
});

test("a whiteout of what is not there does nothing", async () => {
  deepEqual(listing(await layers(tar(file("a/.wh.b", ""), file("c")))), ["/c 644 c"]);
});

test("a hard link is one node under two names", async () => {
  const archive = Buffer.concat([
    tar(file("a", "x")).subarray(0, 1024),
    tarHeader({ path: "b", type: "1", link: "a" }),
    Buffer.alloc(1024),
  ]);
  const { tree } = await layers(archive);
  equal(lookup(tree, "a"), lookup(tree, "b"));
});

test("file capabilities, devices and FIFOs are dropped and listed; hard links to them, too", async () => {
  const special = (path: string, type: string, link = "") => tarHeader({ path, type, link });
  const image = await layers(
    capability(),
    Buffer.concat([
      special("sda", "4"),
      special("null", "3"),
      special("pipe", "6"),
      special("again", "1", "pipe"),
      special("gone", "6"),
      Buffer.alloc(1024),
    ]),
    tar(file("gone", "a file")),
  );
  deepEqual(listing(image), ["/gone 644 a file", "/ping 644 ping"]);
  deepEqual(image.changes, [
    { path: "/again", dropped: "fifo" },
    { path: "/null", dropped: "device" },
    { path: "/ping", dropped: "capability", capabilities: ["NET_RAW"] },
    { path: "/pipe", dropped: "fifo" },
    { path: "/sda", dropped: "device" },
  ]);
});

for (const [name, mediaType, compress] of [
  ["plain", "application/vnd.oci.image.layer.v1.tar", (bytes: Uint8Array) => bytes],
  ["gzip", "application/vnd.oci.image.layer.v1.tar+gzip", gzipSync],
  ["zstd", "application/vnd.oci.image.layer.v1.tar+zstd", zstdCompressSync],
  ["Docker gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip", gzipSync],
  ["Docker zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd", zstdCompressSync],
  ["plain Docker", "application/vnd.docker.image.rootfs.diff.tar", (bytes: Uint8Array) => bytes],
] as const) {
  test(`a ${name} layer`, async () => {
    deepEqual(listing(await load(makeImage([tar(file("a"))], { layerType: mediaType, compress }))), [
      "/a 644 a",
    ]);
  });
}

test("the configuration", async () => {
  const config = {
    Entrypoint: ["/run"],
    Cmd: ["a"],
    Env: ["A=b=c", "E="],
    WorkingDir: "/w",
    User: "1:2",
    ExposedPorts: { "80/tcp": {}, "53/udp": {} },
    Volumes: { "/data": {} },
    StopSignal: "SIGQUIT",
    Shell: ["/bin/bash", "-c"],
    Labels: { a: "b" },
    Healthcheck: { Test: ["CMD", "true"], Interval: 5e9, Timeout: 0, Retries: 2 },
  };
  deepEqual((await load(makeImage([tar()], { config }))).config, {
    entrypoint: ["/run"],
    command: ["a"],
    environment: { A: "b=c", E: "" },
    workingDirectory: "/w",
    user: "1:2",
    exposedPorts: ["53/udp", "80/tcp"],
    volumes: ["/data"],
    stopSignal: "SIGQUIT",
    shell: ["/bin/bash", "-c"],
    labels: { a: "b" },
    healthcheck: { test: ["CMD", "true"], intervalMs: 5000, retries: 2 },
  });
  const none = { Entrypoint: null, Cmd: null, Env: null, Healthcheck: null, Labels: null };
  deepEqual((await load(makeImage([tar()], { config: none }))).config.entrypoint, []);
});

test("special bits are listed, of what is left in the end; owners and a sticky directory stay", async () => {
  const owned = Buffer.from(tar(file("secret", "x", 0o600)));
  owned.write("0001750\0", 108, "latin1");
  owned.write("        ", 148, "latin1");
  owned.write(
    `${owned
      .subarray(0, 512)
      .reduce((a, b) => a + b, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
    "latin1",
  );
  const image = await layers(
    tar(
      file("su", "#!", 0o6755),
      file("gone", "#!", 0o4755),
      file("plain", "#!", 0o4755),
      folder("tmp", 0o1777),
    ),
    tar(file(".wh.gone", ""), file("plain", "#!", 0o755)),
    owned,
  );
  deepEqual(image.changes, [
    { path: "/su", dropped: "setuid" },
    { path: "/su", dropped: "setgid" },
  ]);
  deepEqual(listing(image), ["/plain 755 #!", "/secret 600 x", "/su 755 #!", "/tmp/ 1777"]);
  deepEqual(lookup(image.tree, "secret")?.owner, { user: 1000, group: 0 });
});

test("of an index, linux/amd64 is taken, and attestations are not", async () => {
  const amd64 = makeImage([tar(file("amd64"))]);
  const arm64 = makeImage([tar(file("arm64"))], { architecture: "arm64" });
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        { ...arm64.descriptor, platform: { os: "linux", architecture: "arm64" } },
        { ...amd64.descriptor, platform: { os: "linux", architecture: "amd64" } },
        { ...arm64.descriptor, platform: { os: "unknown", architecture: "unknown" } },
      ],
    }),
  );
  const whole = makeImage([], { document: index, mediaType: "application/vnd.oci.image.index.v1+json" });
  for (const [digest, bytes] of [...amd64.blobs, ...arm64.blobs]) whole.blobs.set(digest, bytes);
  const image = await load(whole);
  deepEqual(listing(image), ["/amd64 644 amd64"]);
  equal(image.digest, amd64.descriptor.digest);
});

/** An image one of whose blobs was changed after it was named. */
function altered(
  which: (descriptor: Descriptor) => boolean,
  change: (bytes: Buffer) => Uint8Array,
): TestImage {
  const image = makeImage([tar(file("a"))]);
  for (const descriptor of image.descriptors.filter(which)) {
    image.blobs.set(descriptor.digest, change(Buffer.from(image.blobs.get(descriptor.digest)!)));
  }
  return image;
}
const isLayer = ({ mediaType }: Descriptor) => mediaType.includes("layer");
const isConfig = ({ mediaType }: Descriptor) => mediaType.includes("config");
const isManifest = ({ mediaType }: Descriptor) => mediaType.includes("manifest");
const flip = (bytes: Buffer) => bytes.fill(bytes[600]! ^ 1, 600, 601);
/** A file with file capabilities, as GNU tar writes them. */
const capability = () => {
  // cap_net_raw+ep, as `setcap` writes it.
  const value = Buffer.from("0100000200200000000000000000000000000000", "hex").toString("latin1");
  const record = `SCHILY.xattr.security.capability=${value}\n`;
  const bytes = Buffer.from(`${record.length + 3} ${record}`, "latin1");
  return Buffer.concat([
    tarHeader({ path: "p", type: "x", size: bytes.length }),
    Buffer.concat([bytes, Buffer.alloc(512 - bytes.length)]),
    tar(file("ping")),
  ]);
};

const refused: { name: string; run: () => Promise<unknown>; code: ImageErrorCode }[] = [
  { name: "an altered layer", run: () => load(altered(isLayer, flip)), code: "oci/digest" },
  {
    name: "a layer cut short",
    run: () => load(altered(isLayer, (b) => b.subarray(0, -512))),
    code: "oci/digest",
  },
  {
    name: "a longer layer",
    run: () => load(altered(isLayer, (b) => Buffer.concat([b, b]))),
    code: "oci/digest",
  },
  {
    name: "something behind a compressed layer",
    run: () =>
      load(
        makeImage([tar(file("a"))], {
          layerType: "application/vnd.oci.image.layer.v1.tar+gzip",
          compress: (bytes) => Buffer.concat([gzipSync(bytes), Buffer.alloc(1 << 20, "x")]),
        }),
      ),
    code: "archive/format",
  },
  {
    name: "an altered manifest",
    run: () => load(altered(isManifest, (b) => b.fill(" ", 0, 1))),
    code: "oci/digest",
  },
  {
    name: "an altered configuration",
    run: () => load(altered(isConfig, (b) => b.fill(" ", 0, 1))),
    code: "oci/digest",
  },
  { name: "a missing blob", run: () => load(altered(isConfig, () => Buffer.alloc(0))), code: "oci/digest" },
  {
    name: "a wrong diff ID",
    run: () => load(makeImage([tar(file("a"))], { diffIds: [`sha256:${"0".repeat(64)}`] })),
    code: "oci/digest",
  },
  {
    name: "a missing diff ID",
    run: () => load(makeImage([tar(file("a"))], { diffIds: [] })),
    code: "oci/config",
  },
  {
    name: "another architecture",
    run: () => load(makeImage([tar()], { architecture: "arm64" })),
    code: "oci/platform",
  },
  {
    name: "another media type",
    run: () => load(makeImage([tar()], { mediaType: "application/vnd.example.chart.v1+json" })),
    code: "oci/media-type",
  },
  {
    name: "an encrypted layer",
    run: () =>
      load(makeImage([tar()], { layerType: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted" })),
    code: "oci/media-type",
  },
  {
    name: "a manifest that is not JSON",
    run: () => load(makeImage([], { document: Buffer.from("{") })),
    code: "oci/layout",
  },
  {
    name: "a manifest of another shape",
    run: () => load(makeImage([], { document: Buffer.from("{}") })),
    code: "oci/layout",
  },
  {
    name: "a digest of another kind",
    run: () =>
      load(
        makeImage([], {
          document: Buffer.from(
            JSON.stringify({
              schemaVersion: 2,
              config: { mediaType: "x", digest: "md5:1", size: 1 },
              layers: [],
            }),
          ),
        }),
      ),
    code: "oci/layout",
  },
  {
    name: "an environment entry without a name",
    run: () => load(makeImage([tar()], { config: { Env: ["=x"] } })),
    code: "oci/config",
  },
  { name: "a path that climbs out", run: () => layers(tar(file("../x"))), code: "archive/path" },
  { name: "a symlink that climbs out", run: () => layers(tar(link("a", "../x"))), code: "archive/link" },
  {
    name: "a file below a file of a lower layer",
    run: () => layers(tar(file("a")), tar(file("a/b"))),
    code: "oci/layer",
  },
  {
    name: "a hard link to a whiteout",
    run: () =>
      layers(
        Buffer.concat([
          tarHeader({ path: ".wh.a", type: "0" }),
          tarHeader({ path: "b", type: "1", link: ".wh.a" }),
          Buffer.alloc(1024),
        ]),
      ),
    code: "archive/link",
  },
  {
    name: "a whiteout of the directory itself",
    run: () => layers(tar(file("a/.wh...", ""))),
    code: "oci/layer",
  },
  { name: "a whiteout of nothing", run: () => layers(tar(file("a/.wh.", ""))), code: "oci/layer" },
  { name: "a file below a whiteout", run: () => layers(tar(file("a/.wh.b/c"))), code: "oci/layer" },
];

for (const { name, run, code } of refused) {
  test(`refused: ${name}`, async () => {
    await rejects(run(), { name: "ImageError", code });
  });
}

test("a layer that is a bomb stops at its bound", async () => {
  const image = makeImage([tar(file("a"))]);
  const manifest = JSON.parse(Buffer.from(image.blobs.get(image.descriptor.digest)!).toString());
  async function* endless() {
    for (;;) yield Buffer.alloc(1 << 16);
  }
  const open = async ({ digest }: Descriptor) => ({
    chunks: digest === manifest.layers[0].digest ? endless() : [image.blobs.get(digest)!],
  });
  await rejects(importImage({ descriptor: image.descriptor, open }), ImageError);
});

test("an index in an index in an index in an index is too deep", async () => {
  const mediaType = "application/vnd.oci.image.index.v1+json";
  let whole = makeImage([tar()]);
  for (let depth = 0; depth < 4; depth++) {
    const document = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [whole.descriptor] }));
    const { blobs } = whole;
    whole = makeImage([], { document, mediaType });
    for (const [digest, bytes] of blobs) whole.blobs.set(digest, bytes);
  }
  await rejects(load(whole), { code: "oci/layout" });
});

test("whatever bit of whatever blob is flipped: refused", async () => {
  const pristine = makeImage([tar(file("a", "content"), link("b", "a"))], {
    layerType: "application/vnd.oci.image.layer.v1.tar+gzip",
    compress: gzipSync,
  });
  const digests = [...pristine.blobs.keys()];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...digests), fc.nat(), fc.nat(7), async (digest, at, bit) => {
      const blobs = new Map(pristine.blobs);
      const copy = Buffer.from(blobs.get(digest)!);
      copy[at % copy.length]! ^= 1 << bit;
      blobs.set(digest, copy);
      await rejects(load({ ...pristine, blobs }), ImageError);
    }),
    { numRuns: 150 },
  );
});

const importLayout = async (directory: string, tag?: string) => importImage(await openLayout(directory, tag));

/** A layout directory that is removed when the test ends. */
function withLayout<T>(
  image: TestImage,
  change: (directory: string) => void,
  use: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "caisson-oci-"));
  mkdirSync(join(directory, "blobs/sha256"), { recursive: true });
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(directory, "index.json"),
    JSON.stringify({ schemaVersion: 2, manifests: [image.descriptor] }),
  );
  for (const [digest, bytes] of image.blobs)
    writeFileSync(join(directory, "blobs/sha256", digest.slice(7)), bytes);
  change(directory);
  return use(directory).finally(() => rmSync(directory, { recursive: true }));
}

test("a layout directory", async () => {
  const found = await withLayout(
    makeImage([tar(file("a"))]),
    () => {},
    async (directory) => listing(await importLayout(directory)),
  );
  deepEqual(found, ["/a 644 a"]);
});

const layouts: { name: string; change: (directory: string) => void; code: ImageErrorCode }[] = [
  { name: "no oci-layout", change: (d) => rmSync(join(d, "oci-layout")), code: "oci/layout" },
  {
    name: "another layout version",
    change: (d) => writeFileSync(join(d, "oci-layout"), '{"imageLayoutVersion":"2.0.0"}'),
    code: "oci/layout",
  },
  { name: "no index", change: (d) => rmSync(join(d, "index.json")), code: "oci/layout" },
  {
    name: "an index without images",
    change: (d) => writeFileSync(join(d, "index.json"), '{"schemaVersion":2,"manifests":[]}'),
    code: "oci/platform",
  },
  { name: "missing blobs", change: (d) => rmSync(join(d, "blobs"), { recursive: true }), code: "oci/layout" },
];

for (const { name, change, code } of layouts) {
  test(`refused layout: ${name}`, async () => {
    await rejects(withLayout(makeImage([tar(file("a"))]), change, importLayout), { code });
  });
}

test("refused layout: two images that could both be meant", async () => {
  const other = makeImage([tar(file("other"))]).descriptor;
  const both = JSON.stringify({ schemaVersion: 2, manifests: [makeImage([tar()]).descriptor, other] });
  const run = withLayout(makeImage([tar()]), (d) => writeFileSync(join(d, "index.json"), both), importLayout);
  await rejects(run, { code: "oci/platform" });
});
