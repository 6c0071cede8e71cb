// SPDX-License-Identifier: Apache-2.0
import { deepEqual, match, notDeepEqual } from "node:assert/strict";
import { test } from "node:test";
import { cyclonedxFaults } from "../../../../test/support/cyclonedx.ts";
import { type DirectoryNode, directory, put, walk } from "../build/tree.ts";
import type { LockedPackage } from "../inputs/lock.ts";
import { sbom } from "./sbom.ts";

test("package URLs are in canonical form, which others compare as text", () => {
  const debian = (name: string, version: string): LockedPackage => ({
    name,
    version,
    architecture: "amd64",
    suite: "trixie",
    archive: "debian",
    groups: ["root"],
    path: "pool/main/x",
    size: 1,
    sha256: "00".repeat(32),
  });
  const text = sbom({
    name: "test",
    flavour: "production",
    sourceDate: 0,
    root: { tree: directory(), origins: new Map(), elf: new Map(), spare: new Map() },
    digests: new Map(),
    packages: [debian("libstdc++6", "14.2.0-19"), debian("libcap2", "1:2.75-10+deb13u1~x")],
    npm: [{ name: "@scope/a", version: "1.0.0+build" }],
    toolchain: { packages: [], npm: [] },
    licences: new Map(),
    sources: "ef".repeat(32),
    services: [],
  });
  const { components } = JSON.parse(text) as { components: { purl?: string }[] };
  deepEqual(
    components.map(({ purl }) => purl).filter((purl) => purl !== undefined),
    [
      "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie",
      "pkg:deb/debian/libcap2@1:2.75-10%2Bdeb13u1~x?arch=amd64&distro=trixie",
      "pkg:npm/%40scope/a@1.0.0%2Bbuild",
    ],
  );
});

const installed = (path: string, description: string) => {
  const tree = directory();
  put(tree, path, { kind: "file", mode: 0o644, content: Buffer.from(description) });
  return tree;
};
interface Bom {
  serialNumber: string;
  components: { name: string; licenses?: object[]; components?: { name: string; version?: string }[] }[];
  dependencies: { ref: string; dependsOn: string[] }[];
  formulation: { components: { name: string }[] }[];
}
const bomOf = (tree: DirectoryNode, sources = "ef".repeat(32)): Bom =>
  JSON.parse(
    sbom({
      name: "test",
      flavour: "production",
      sourceDate: 0,
      root: { tree, origins: new Map(), elf: new Map(), spare: new Map() },
      digests: new Map(
        [...walk(tree)].flatMap(([, node]) => (node.kind === "file" ? [[node, "00"] as const] : [])),
      ),
      packages: [],
      npm: [{ name: "zod", version: "1.0.0" }],
      toolchain: { packages: [], npm: [{ name: "esbuild", version: "1.2.3" }] },
      licences: new Map([["zod 1.0.0", ["MIT"]]]),
      sources,
      services: [{ names: ["web"], place: "/app", digest: `sha256:${"ab".repeat(32)}` }],
    }),
  );

test("npm packages of an application are named with version and licence, below its service", () => {
  const path = "/app/rootfs/app/node_modules/@scope/left/package.json";
  const bom = bomOf(installed(path, '{"name":"other","version":"1.2.3","license":"MIT"}'));
  const web = bom.components.find(({ name }) => name === "web")!;
  deepEqual(
    web.components!.map(({ name, version }) => [name, version]),
    [
      ["@scope/left", "1.2.3"],
      [path, undefined],
    ],
  );
});

test("what a package of an application says wrongly of itself leaves its files listed", () => {
  for (const said of ["", "{", "null", "[]", '{"version":1}', '{"version":"\\u001b[31m"}']) {
    const bom = bomOf(installed("/app/rootfs/node_modules/a/package.json", said));
    deepEqual(bom.components.find(({ name }) => name === "web")!.components!.length, 1, said);
  }
});

test("Caisson's sources, licences, the toolchain and what the image is made of are in it", () => {
  const bom = bomOf(directory());
  deepEqual(bom.components.find(({ name }) => name === "zod")!.licenses, [{ license: { name: "MIT" } }]);
  deepEqual(
    bom.formulation.flatMap(({ components }) => components.map(({ name }) => name)),
    ["esbuild"],
  );
  deepEqual(bom.dependencies, [
    { ref: "image", dependsOn: ["pkg:npm/zod@1.0.0", `caisson:${"ef".repeat(32)}`, "service:web"] },
  ]);
});

test("a bill of materials passes CycloneDX's schema; a changed one does not", () => {
  const path = "/app/rootfs/app/node_modules/left/package.json";
  const bom = bomOf(installed(path, '{"name":"left","version":"1.2.3","license":"MIT"}'), "ab".repeat(32));
  // A digest of the right length: the tree's stand-in is shorter.
  const sized = JSON.parse(
    JSON.stringify(bom).replaceAll('"content":"00"', `"content":"${"00".repeat(32)}"`),
  ) as Bom;
  deepEqual(cyclonedxFaults(sized), []);
  const wrong: [fault: RegExp, change: object][] = [
    [/serialNumber/, { serialNumber: "1" }],
    [/additional properties/, { extra: 1 }],
    [/components\/0/, { components: [{ name: "a" }] }],
    [/nothing is called other/, { dependencies: [{ ref: "image", dependsOn: ["other"] }] }],
    [/stands twice/, { components: [...sized.components, { ...sized.components[0], name: "again" }] }],
  ];
  for (const [fault, change] of wrong) match(cyclonedxFaults({ ...sized, ...change }).join("\n"), fault);
});

test("the serial number follows from the content", () => {
  const [first, again, other] = [bomOf(directory()), bomOf(directory()), bomOf(directory(), "00".repeat(32))];
  match(first.serialNumber, /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  deepEqual(first.serialNumber, again.serialNumber);
  notDeepEqual(first.serialNumber, other.serialNumber);
});
