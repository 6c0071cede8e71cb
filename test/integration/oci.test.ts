// SPDX-License-Identifier: Apache-2.0
/** Images from a registry on loopback: by digest or tag, with a token or a password, from blobs that may be wrong. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { openImage, pinImages } from "@caisson/image/open";
import { parseReference, type RegistryReference } from "@caisson/image/reference";
import { type TarFile, writeTar } from "@caisson/image/tar-writer";
import { makeImage, sha256, type TestImage } from "@caisson/image/testing/archive";
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

const host = () => server.url.slice("http://".length);
const reference = (image: TestImage): RegistryReference => ({
  kind: "registry",
  registry: host(),
  repository: "team/app",
  digest: image.descriptor.digest,
});
/** Docker's configuration is the test's own, if there is one. */
const options = (environment: NodeJS.ProcessEnv = {}) => ({
  cache,
  environment: { DOCKER_CONFIG: join(cache, "docker"), ...environment },
});
const pull = (image: TestImage, environment?: NodeJS.ProcessEnv) =>
  openImage(reference(image), {}, options(environment));

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

test("an image that was pulled once needs no registry, and a damaged cache does", async () => {
  const wanted = image();
  push(wanted);
  const { changes: _, ...first } = await pull(wanted);
  server.requests.length = 0;
  const { changes: __, ...second } = await pull(wanted);
  deepEqual(server.requests, []);
  deepEqual(second, first);

  const [layer] = wanted.descriptors.slice(2);
  const unpacked = gunzipSync(wanted.blobs.get(layer!.digest)!);
  writeFileSync(join(cache, "layers", sha256(unpacked)), "damaged");
  writeFileSync(join(cache, "sha256", layer!.digest.slice("sha256:".length)), "damaged");
  const { changes: ___, ...third } = await pull(wanted);
  deepEqual(third, first);
  equal(
    server.requests.some(({ path }) => path === `v2/team/app/blobs/${layer!.digest}`),
    true,
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
  { name: "no such image", change: () => server.files.clear(), code: "oci/tag" },
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

/** Docker's configuration for this registry. */
function login(config: object): void {
  mkdirSync(join(cache, "docker"), { recursive: true });
  writeFileSync(join(cache, "docker/config.json"), JSON.stringify(config));
}
const base64 = (text: string) => Buffer.from(text).toString("base64");

/** A registry that asks in these words, and lets in who says this. */
function guarded(challenge: string, authorization: string): void {
  const inner = server.intercept;
  server.intercept = (request, response) => {
    if (request.url!.startsWith("/token")) return inner(request, response);
    if (request.headers.authorization === authorization) return inner(request, response);
    response.writeHead(401, { "www-authenticate": challenge }).end();
    return true;
  };
}

/** A token server's answer, for whoever shows these credentials. */
function issue(answer: object, credentials?: string): void {
  const inner = server.intercept;
  server.intercept = (request, response) => {
    if (!request.url!.startsWith("/token")) return inner(request, response);
    const { authorization } = request.headers;
    if (authorization !== credentials) response.writeHead(401).end();
    else response.end(JSON.stringify(answer));
    return true;
  };
}

const bearer = () => `Bearer realm="${server.url}/token",service="s"`;
const challenges: [what: string, text: () => string][] = [
  ["two challenges in one field", () => `Basic realm="a, b=\\"c\\"", ${bearer()}`],
  ["the other way round, and a token of another scheme", () => `${bearer()}, Negotiate aGk=, Basic realm=x`],
  ["other letters and spaces", () => `bEARER  REALM = "${server.url}/token" ,, Service="s"`],
];
for (const [what, text] of challenges) {
  test(`a challenge is understood: ${what}`, async () => {
    const wanted = image();
    push(wanted);
    issue({ token: "secret" });
    guarded(text(), "Bearer secret");
    equal((await pull(wanted)).digest, wanted.descriptor.digest);
  });
}

const answers: [what: string, answer: object][] = [
  ["token is null", { token: null, access_token: "secret" }],
  ["token is empty", { token: "", access_token: "secret", expires_in: null }],
  ["both are there", { token: "secret", access_token: "other" }],
];
for (const [what, answer] of answers) {
  test(`a token server's answer: ${what}`, async () => {
    const wanted = image();
    push(wanted);
    issue(answer);
    guarded(bearer(), "Bearer secret");
    equal((await pull(wanted)).digest, wanted.descriptor.digest);
  });
}

for (const answer of [{}, { token: null }, { token: "two words" }]) {
  test(`refused: a token server that gives ${JSON.stringify(answer)}`, async () => {
    push(image());
    issue(answer);
    guarded(bearer(), "Bearer secret");
    await rejects(pull(image()), { code: "oci/registry", message: /gave no token/ });
  });
}

test("a password goes to a registry that asks for one, and to its token server", async () => {
  const wanted = image();
  login({ auths: { [host()]: { auth: base64("me:pass:word") } } });
  push(wanted);
  guarded('Basic realm="x"', `Basic ${base64("me:pass:word")}`);
  await pull(wanted);
  rmSync(join(cache, "sha256"), { recursive: true });
  push(wanted);
  issue({ token: "secret" }, `Basic ${base64("me:pass:word")}`);
  guarded(bearer(), "Bearer secret");
  await pull(wanted);
});

test("credentials come from a helper, which is asked for this registry alone", async () => {
  const wanted = image();
  const helper = join(cache, "docker-credential-test");
  writeFileSync(
    helper,
    '#!/bin/sh\nread -r key\n[ "$1 $key" = "get $WANTED" ] || { echo "credentials not found in native keychain"; exit 1; }\necho \'{"ServerURL":"x","Username":"me","Secret":"word"}\'\n',
  );
  chmodSync(helper, 0o755);
  const before = { PATH: process.env["PATH"], WANTED: process.env["WANTED"] };
  Object.assign(process.env, { PATH: `${cache}:${before.PATH}`, WANTED: host() });
  try {
    for (const config of [{ credHelpers: { [host()]: "test" } }, { credsStore: "test" }]) {
      login(config);
      push(wanted);
      guarded('Basic realm="x"', `Basic ${base64("me:word")}`);
      await pull(wanted);
      rmSync(join(cache, "sha256"), { recursive: true });
    }
    login({ credHelpers: { [host()]: "none-of-this-name" } });
    await rejects(pull(wanted), { code: "oci/credentials", message: /docker-credential-none-of-this-name/ });
    process.env["WANTED"] = "another";
    login({ credsStore: "test" });
    await rejects(pull(wanted), { code: "oci/credentials", message: /there is none/ });
  } finally {
    Object.assign(process.env, before);
    if (before.WANTED === undefined) delete process.env["WANTED"];
  }
});

test("without credentials, a registry that asks for a password is given none, and the message says what to do", async () => {
  push(image());
  guarded('Basic realm="x"', "never");
  await rejects(pull(image()), {
    code: "oci/credentials",
    message: /there is none/,
    fix: /docker login 127/,
  });
  guarded("Negotiate", "never");
  await rejects(pull(image()), { code: "oci/credentials", message: /\(negotiate\)/ });
});

test("a token is not fetched from elsewhere over plain HTTP", async () => {
  guarded('Bearer realm="http://registry.example/token"', "never");
  await rejects(pull(image()), { code: "oci/credentials", message: /safely/ });
});

test("a manifest's own type decides, whatever the registry calls it", async () => {
  for (const stated of ["text/plain", "application/vnd.oci.image.index.v1+json"]) {
    const wanted = makeImage([Buffer.concat([...writeTar([file("a")])])], { ownType: true });
    push({ ...wanted, descriptor: { ...wanted.descriptor, mediaType: stated } });
    equal((await pull(wanted)).digest, wanted.descriptor.digest);
    rmSync(join(cache, "sha256"), { recursive: true });
  }
});

test("a tag is pinned to the digest that it names, and the image is that one from then on", async () => {
  const [first, second] = [image(), makeImage([Buffer.concat([...writeTar([file("other")])])])];
  const tagged = (to: TestImage, stated = to.descriptor.digest) => {
    push(to);
    const bytes = to.blobs.get(to.descriptor.digest)!;
    const inner = server.intercept;
    server.intercept = (request, response) => {
      if (!request.url!.endsWith("/manifests/1.0")) return inner(request, response);
      const { mediaType } = to.descriptor;
      response.writeHead(200, { "content-type": mediaType, "docker-content-digest": stated }).end(bytes);
      return true;
    };
  };
  const name = parseReference(`${host()}/team/app:1.0`, "/");
  tagged(first);
  const images = await pinImages([name, name, reference(first)], options());
  deepEqual(images, [{ reference: `${host()}/team/app:1.0`, digest: first.descriptor.digest }]);
  tagged(second);
  equal((await openImage(name, { images }, options())).digest, first.descriptor.digest);
  await rejects(openImage(name, {}, options()), { code: "lock/stale" });
  tagged(second, first.descriptor.digest);
  await rejects(pinImages([name], options()), { code: "oci/digest", message: /something else/ });
});

test("a mirror is asked first, and the registry when the mirror cannot", async () => {
  const wanted = image();
  push(wanted);
  const there = { CAISSON_REGISTRY_MIRRORS: `registry.example=${host()}` };
  const elsewhere = { ...reference(wanted), registry: "registry.example" };
  equal((await openImage(elsewhere, {}, options(there))).digest, wanted.descriptor.digest);
  rmSync(join(cache, "sha256"), { recursive: true });
  const broken = { CAISSON_REGISTRY_MIRRORS: `${host()}=127.0.0.1:1` };
  equal((await pull(wanted, broken)).digest, wanted.descriptor.digest);
  await rejects(pull(image(), { CAISSON_REGISTRY_MIRRORS: "nonsense" }), (error: Error) => {
    match(error.message, /CAISSON_REGISTRY_MIRRORS/);
    return true;
  });
});

test("a registry that is not there", async () => {
  const nowhere: RegistryReference = { ...reference(image()), registry: "127.0.0.1:1" };
  await rejects(openImage(nowhere, {}, options()), { code: "oci/registry", kind: "unavailable" });
});
