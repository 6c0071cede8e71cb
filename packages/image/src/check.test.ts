// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { check, type Finding } from "./check.ts";

const place = temporaryDirectory("check");

/** An OCI layout without layers whose configuration is this; its path from `place`. */
function layout(name: string, config: object, architecture = "amd64"): string {
  const directory = join(place, name);
  const blobs = join(directory, "blobs", "sha256");
  mkdirSync(blobs, { recursive: true });
  const blob = (mediaType: string, value: object) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const hash = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, hash), bytes);
    return { mediaType, digest: `sha256:${hash}`, size: bytes.length };
  };
  const rootfs = { type: "layers", diff_ids: [] };
  const described = blob("application/vnd.oci.image.config.v1+json", {
    os: "linux",
    architecture,
    rootfs,
    config,
  });
  const manifest = { schemaVersion: 2, config: described, layers: [] };
  const manifests = [blob("application/vnd.oci.image.manifest.v1+json", manifest)];
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
  return `./${name}`;
}

const options = { cache: join(place, "cache"), environment: {} };
const root = layout("root", {
  Entrypoint: ["/run"],
  ExposedPorts: { "80/tcp": {}, "81/tcp": {} },
  Volumes: { "/data": {} },
});
const user = layout("user", { Entrypoint: ["/run"], User: "1000" });

async function findings(text: string): Promise<Record<string, Finding[]>> {
  const path = join(place, "compose.yaml");
  writeFileSync(path, text);
  const report = await check(path, options);
  return Object.fromEntries(report.services.map((service) => [service.name, service.findings]));
}
const texts = (list: Finding[] | undefined, kind: Finding["kind"]) =>
  (list ?? []).filter((one) => one.kind === kind).map(({ text }) => text);

test("what a service gives up has its line and what would take it back", async () => {
  const { web, db } = await findings(
    `services:\n  web: { image: ${root}, ports: ["8080:80"], cap_add: [NET_RAW, SYS_CHROOT] }\n  db:\n    image: ${user}\n    read_only: true\n    networks: [back]\nnetworks: { back: { internal: true } }\n`,
  );
  deepEqual(texts(web, "cost"), [
    "starts as root of a user namespace of its own",
    "may send packets that it made itself",
    "may call chroot",
    "its root has a writable layer in memory",
    "may connect to anywhere",
  ]);
  ok(
    web!
      .filter(({ kind }) => kind === "cost")
      .every(({ line, change }) => line === 2 && change !== undefined),
  );
  deepEqual(texts(web, "note"), [
    "81/tcp of its image is not reached from outside",
    "reached from outside at 8080/tcp, inside 80",
  ]);
  deepEqual(texts(db, "cost"), []);
  deepEqual(texts(db, "note"), ["connects to nothing outside"]);
});

test("services that share a network are named", async () => {
  const { a } = await findings(`services:\n  a: { image: ${root} }\n  b: { image: ${user} }\n`);
  ok(texts(a, "note").includes("reaches b"));
});

test("an image that is not there, or for other machines, is a fault; a registry that is silent is not", async () => {
  const other = layout("other", {}, "arm64");
  const found = await findings(
    `services:\n  gone: { image: ./none }\n  other: { image: ${other} }\n  far: { image: "localhost:1/x:1" }\n`,
  );
  match(texts(found.gone, "fault").join(), /none/);
  match(texts(found.other, "fault").join(), /arm64|amd64/);
  equal(texts(found.far, "fault").length, 0);
  match(texts(found.far, "unknown").join(), /not looked at/);
});

test("one image by itself is a service as a compose file would have it; with read_only, a plain one", async () => {
  const [service] = (await check(join(place, "root"), options)).services;
  deepEqual([service!.name, service!.isolation], ["root", "contained"]);
  ok(texts(service!.findings, "cost").includes("starts as root of a user namespace of its own"));
  ok(service!.findings.every(({ line }) => line === undefined));
  const spec = (image: string) => `version: 1\nname: one\napp:\n  image: ${image}\n  read_only: true\n`;
  const path = join(place, "plain.yaml");
  writeFileSync(path, spec(root));
  const plain = (await check(path, options)).services[0]!;
  deepEqual([plain.isolation, plain.findings.length], ["plain", 2]);
  writeFileSync(path, spec(user));
  deepEqual((await check(path, options)).services[0]!.findings, []);
});

test("a spec, a directory with one, a directory with a compose file", async () => {
  const directory = join(place, "project");
  mkdirSync(directory);
  writeFileSync(join(directory, "compose.yaml"), `services: { a: { image: .${user} } }\n`);
  equal((await check(directory, options)).services[0]!.name, "a");
  const spec = `version: 1\nname: hello\napp:\n  compose: ./compose.yaml\n`;
  writeFileSync(join(directory, "caisson.yaml"), spec);
  equal((await check(directory, options)).services[0]!.isolation, "contained");
  equal((await check(join(directory, "caisson.yaml"), options)).services[0]!.name, "a");
});

test("a spec's front and persistent volumes are in what is said", async () => {
  const directory = join(place, "notes");
  mkdirSync(directory);
  writeFileSync(join(directory, "server.mjs"), "");
  const said = async (app: string, rest: string) => {
    writeFileSync(
      join(directory, "caisson.yaml"),
      `version: 1\nname: notes\napp:\n  node: ./server.mjs\n${app}\n${rest}\n`,
    );
    const { services, findings } = await check(directory, options);
    return { own: services[0]!.findings, all: findings };
  };
  const front = await said(
    "  port: 8080\n  volumes: { data: /data }",
    "front: { port: 8443 }\nvolumes: { data: { size: 1GiB } }",
  );
  deepEqual(texts(front.own, "note"), ["reached from outside at 8443/tcp, through the front; inside 8080"]);
  deepEqual(texts(front.all, "note"), ["volumes that outlive the machine, encrypted to it: data"]);
  deepEqual(texts(front.all, "fault"), []);
  equal(
    front.own.some(({ change = "" }) => change.startsWith("x-caisson") || change.startsWith("no secrets")),
    false,
  );
  const direct = await said("  port: 8080", "front: { port: 8443, direct: [8080] }");
  ok(texts(direct.own, "note").includes("reached from outside at 8443/tcp, through the front; inside 8080"));

  match(texts((await said("", "front: { port: 8443 }")).all, "fault").join(), /nothing behind it/);
  match(
    texts((await said("", "volumes: { data: { size: 1GiB } }")).all, "fault").join(),
    /no service mounts/,
  );
  match(texts((await said("  volumes: { data: /data }", "")).all, "fault").join(), /names 'data'/);

  const path = join(place, "compose.yaml");
  writeFileSync(path, `services:\n  a: { image: ${user}, volumes: ["cache:/c"] }\nvolumes: { cache: }\n`);
  const [note] = (await check(path, options)).findings.filter(({ kind }) => kind === "note");
  deepEqual(
    [note?.text, note?.change],
    [
      "volumes in memory, which end with the machine: cache",
      "volumes: { cache: { size: 1GiB } } in caisson.yaml",
    ],
  );
});

test("of several published ports the front stands before one, and withholds the others", async () => {
  const directory = join(place, "withheld");
  mkdirSync(directory);
  writeFileSync(
    join(directory, "compose.yaml"),
    `services:\n  web:\n    image: .${user}\n    ports: ["8080:80", "8081:81", "8082:82"]\n`,
  );
  writeFileSync(
    join(directory, "caisson.yaml"),
    "version: 1\nname: web\napp: { compose: ./compose.yaml }\nfront: { port: 8443, target: 8081, direct: [8082] }\n",
  );
  const { services } = await check(directory, options);
  deepEqual(
    texts(services[0]!.findings, "note").filter((text) => text.includes("outside")),
    [
      "8080/tcp is not reached from outside",
      "reached from outside at 8443/tcp, through the front; inside 81",
      "reached from outside at 8082/tcp, inside 82",
    ],
  );
});

test("what cannot run at all is the error of who says so", async () => {
  const path = join(place, "bad.yaml");
  writeFileSync(path, "services: { a: { image: x, privileged: true } }\n");
  await rejects(check(path, options), { code: "compose/refused" });
  await rejects(check("Not A Name", options), { code: "oci/reference" });
});
