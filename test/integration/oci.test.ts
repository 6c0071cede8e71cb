/** Images from a registry on loopback: pulled by digest, with a token, from blobs that may be wrong. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { gzipSync } from "node:zlib";
import { pullImage } from "@caisson/image/registry";
import { type TarFile, writeTar } from "@caisson/image/tar-writer";
import { makeImage, type TestImage } from "@caisson/image/testing/archive";
import { walk } from "@caisson/image/tree";
import { serve, type TestServer } from "../support/server.ts";

let server: TestServer;
let cache: string;
beforeEach(async () => {
  server = await serve();
  cache = mkdtempSync(join(tmpdir(), "caisson-oci-"));
});
afterEach(async () => {
  await server.close();
  rmSync(cache, { recursive: true });
});

const file = (path: string): TarFile => ({ path, mode: 0o644, content: Buffer.from(path) });
const image = () =>
  makeImage([Buffer.concat([...writeTar([file("a")])]), Buffer.concat([...writeTar([file("b")])])], {
    layerType: "application/vnd.oci.image.layer.v1.tar+gzip",
    compress: gzipSync,
    config: { Entrypoint: ["/a"] },
  });

/** Puts an image into the registry as `team/app`; `token` makes it ask for one. */
function push(image: TestImage, token?: string): void {
  const base = "v2/team/app";
  for (const [digest, bytes] of image.blobs) {
    server.files.set(`${base}/blobs/${digest}`, bytes);
    server.files.set(`${base}/manifests/${digest}`, bytes);
  }
  server.intercept = (request, response) => {
    if (request.url!.startsWith("/token?")) {
      response.end(JSON.stringify(token === undefined ? {} : { token }));
      return true;
    }
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      const challenge = `Bearer realm="${server.url}/token",service="registry",scope="repository:team/app:pull"`;
      response.writeHead(401, { "www-authenticate": challenge }).end();
      return true;
    }
    if (!request.url!.includes("/manifests/")) return false;
    const bytes = server.files.get(request.url!.slice(1));
    if (bytes === undefined) return false;
    response
      .writeHead(200, { "content-type": image.descriptor.mediaType, "content-length": bytes.length })
      .end(bytes);
    return true;
  };
}

const reference = (image: TestImage) => ({
  registry: server.url.slice("http://".length),
  repository: "team/app",
  digest: image.descriptor.digest,
});
const pull = (image: TestImage) => pullImage(reference(image), cache);

for (const token of [undefined, "secret"]) {
  test(`an image is pulled by digest, ${token === undefined ? "openly" : "with a token"}`, async () => {
    const wanted = image();
    push(wanted, token);
    const { tree, digest, config } = await pull(wanted);
    equal(digest, wanted.descriptor.digest);
    deepEqual(
      [...walk(tree)].map(([path]) => path),
      ["/a", "/b"],
    );
    deepEqual(config.entrypoint, ["/a"]);
  });
}

test("blobs are kept: the second pull asks for the manifest only", async () => {
  const wanted = image();
  push(wanted);
  await pull(wanted);
  server.requests.length = 0;
  await pull(wanted);
  deepEqual(
    server.requests.map(({ path }) => path),
    [`v2/team/app/manifests/${wanted.descriptor.digest}`],
  );
});

const flipped = (bytes: Uint8Array) => {
  const copy = Buffer.from(bytes);
  copy[copy.length >> 1]! ^= 1;
  return copy;
};

const refused: { name: string; change: (image: TestImage) => void; code: string }[] = [
  {
    name: "an altered layer",
    change: ({ descriptors }) => alter("blobs", descriptors.at(-1)!.digest, flipped),
    code: "fetch/hash",
  },
  {
    name: "a layer cut short",
    change: ({ descriptors }) => alter("blobs", descriptors.at(-1)!.digest, (b) => b.subarray(0, -1)),
    code: "fetch/size",
  },
  {
    name: "an altered configuration",
    change: ({ descriptors }) => alter("blobs", descriptors[1]!.digest, flipped),
    code: "fetch/hash",
  },
  {
    name: "an altered manifest",
    change: ({ descriptor }) => alter("manifests", descriptor.digest, flipped),
    code: "oci/digest",
  },
  {
    name: "an endless manifest",
    change: ({ descriptor }) => alter("manifests", descriptor.digest, () => Buffer.alloc(5 << 20)),
    code: "oci/registry",
  },
  {
    name: "a layer that is gone",
    change: ({ descriptors }) => server.files.delete(`v2/team/app/blobs/${descriptors.at(-1)!.digest}`),
    code: "fetch/gone",
  },
  { name: "no such image", change: () => server.files.clear(), code: "oci/registry" },
];

function alter(kind: string, digest: string, by: (bytes: Uint8Array) => Uint8Array): void {
  const path = `v2/team/app/${kind}/${digest}`;
  server.files.set(path, by(server.files.get(path)!));
}

for (const { name, change, code } of refused) {
  test(`refused: ${name}`, async () => {
    const wanted = image();
    push(wanted);
    change(wanted);
    await rejects(pull(wanted), { name: "ImageError", code });
  });
}

test("a registry that wants a password is not supported, and is not given one", async () => {
  server.intercept = (_, response) => {
    response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
    return true;
  };
  await rejects(pull(image()), { code: "oci/registry", message: /only anonymous pulls/ });
});

test("a token is not fetched from elsewhere over plain HTTP", async () => {
  server.intercept = (_, response) => {
    response.writeHead(401, { "www-authenticate": 'Bearer realm="http://registry.example/token"' }).end();
    return true;
  };
  await rejects(pull(image()), { code: "oci/registry" });
});

test("a registry that is not there", async () => {
  const nowhere = { ...reference(image()), registry: "127.0.0.1:1" };
  await rejects(pullImage(nowhere, cache), { code: "oci/registry", kind: "internal" });
});
