// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import type { GuestConfig } from "@caisson/protocol/guest-config";
import { plainService } from "@caisson/protocol/testing/service";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { rootFiles } from "../inputs/recipe.ts";
import { elfFile } from "../testing/elf.ts";
import { crun, node, program, rootInputs, type Variation } from "../testing/root.ts";
import type { Application } from "./application.ts";
import { addApplication, assembleRoot, checkRoot, librariesOf } from "./rootfs.ts";
import { type DirectoryNode, directory, lookup, put, walk } from "./tree.ts";

const place = temporaryDirectory("rootfs");

const inputs = (variation: Variation = {}) => rootInputs(place, variation);

test("the root is what the recipe names, and nothing else", async () => {
  const { tree, origins } = await assembleRoot(inputs());
  const own = [
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/usr/bin/node",
    "/usr/lib/caisson/init.mjs",
    "/usr/lib/caisson/syscalls.node",
  ];
  const files = [...walk(tree)].filter(([, entry]) => entry.kind === "file").map(([path]) => path);
  deepEqual(files, [...own, ...rootFiles.map(({ path }) => path)].sort());
  equal(origins.get("/usr/bin/crun"), "crun 1");
  ok(files.every((path) => origins.has(path)));
});

test("only Node, crun and the loader may be executed, whatever the packages say", async () => {
  const { tree } = await assembleRoot(inputs());
  const executable = [...walk(tree)].filter(
    ([, entry]) => entry.kind === "file" && (entry.mode & 0o111) !== 0,
  );
  deepEqual(
    executable.map(([path]) => path),
    ["/usr/bin/crun", "/usr/bin/node", "/usr/lib64/ld-linux-x86-64.so.2"],
  );
});

test("the libraries of a program, the loader among them", async () => {
  const libraries = librariesOf(await assembleRoot(inputs()), "/usr/bin/crun");
  deepEqual(libraries, [
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libcap.so.2",
    "/usr/lib/x86_64-linux-gnu/libseccomp.so.2",
    "/usr/lib/x86_64-linux-gnu/libsystemd.so.0",
    "/usr/lib/x86_64-linux-gnu/libyajl.so.2",
    "/usr/lib64/ld-linux-x86-64.so.2",
  ]);
});

const libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
const refused: [what: string, variation: Variation, code: string][] = [
  [
    "a library that no file provides",
    { node: program(...node.needed!, "libssl.so.3") },
    "root/missing-library",
  ],
  ["a library that nothing needs", { node: program("libc.so.6") }, "root/unneeded-library"],
  ["a package without its file", { withoutFile: libc }, "root/missing-file"],
  ["a lock without the package", { withoutPackage: "crun" }, "root/missing-file"],
  ["an executable stack", { crun: { ...crun, stackFlags: 7 } }, "root/hardening"],
  ["no read-only relocations", { crun: { ...crun, relro: false } }, "root/hardening"],
  ["a program at a fixed address", { crun: { ...crun, type: 2 } }, "root/hardening"],
  ["a library path of its own", { crun: { ...crun, runPath: "/tmp" } }, "root/hardening"],
  ["another loader", { crun: { ...crun, interpreter: "/lib/ld-musl-x86_64.so.1" } }, "elf/format"],
  ["a library that is none", { instead: { [libc]: Buffer.from("/* GNU ld script */") } }, "elf/format"],
];
for (const [what, variation, code] of refused) {
  test(`refused: ${what}`, () => rejects(assembleRoot(inputs(variation)), { code }));
}

test("Node alone may lie at a fixed address", async () => {
  await assembleRoot(inputs({ node: { ...node, type: 2 } }));
});

test("refused: any other executable file, a script included", async () => {
  const { tree } = await assembleRoot(inputs());
  put(tree, "/usr/bin/sh", { kind: "file", mode: 0o755, content: Buffer.from("#!/usr/bin/node") });
  throws(() => checkRoot(tree), { code: "root/executable" });
});

/** One plain service with this root. */
const applicationOf = (tree: DirectoryNode) =>
  ({
    description: { services: { app: plainService() } },
    roots: [{ path: "/app/rootfs", image: { tree }, services: ["app"] }],
    files: [],
  }) as unknown as Application;

test("the application is opaque, gets what the sandbox mounts on, and keeps what it has", async () => {
  const application: DirectoryNode = directory();
  put(application, "/bin/sh", { kind: "file", mode: 0o755, content: Buffer.from("") });
  put(application, "/etc/resolv.conf", { kind: "file", mode: 0o600, content: Buffer.from("mine") });
  const config = { version: "caisson/guest/v1" } as GuestConfig;
  const { tree, origins } = addApplication(await assembleRoot(inputs()), applicationOf(application), config);
  for (const mountPoint of ["dev", "proc", "run", "tmp"]) {
    equal(lookup(tree, `/app/rootfs/${mountPoint}`)?.kind, "directory", mountPoint);
  }
  const resolver = lookup(tree, "/app/rootfs/etc/resolv.conf");
  equal(resolver?.kind === "file" && resolver.mode, 0o600);
  equal(origins.has("/app/rootfs/bin/sh"), false);
  equal(origins.get("/etc/caisson/guest.json"), "caisson");
});

test("the first process of services is there where one is asked for, and has to be hardened", async () => {
  const add = async (program?: Uint8Array) =>
    addApplication(await assembleRoot(inputs()), applicationOf(directory()), {} as GuestConfig, {
      ...(program && { serviceInit: program }),
    });
  equal(lookup((await add()).tree, "/app/_init"), undefined);
  const { tree, origins, elf } = await add(elfFile({}));
  const node = lookup(tree, "/app/_init");
  deepEqual([node?.kind === "file" && node.mode, origins.get("/app/_init")], [0o755, "caisson"]);
  ok(elf.has("/app/_init"));
  await rejects(add(elfFile({ relro: false })), { code: "root/hardening" });
});

test("a large file that the system has, too, is the system's inode; a small or a different one is not", async () => {
  const root = await assembleRoot(inputs());
  const large = Buffer.alloc(100_000, "same");
  const file = (content: Buffer, mode = 0o644) => ({ kind: "file", mode, content }) as const;
  put(root.tree, "/large", file(large));
  put(root.tree, "/small", file(Buffer.from("same")));
  const application = directory();
  put(application, "/same", file(Buffer.from(large)));
  put(application, "/small", file(Buffer.from("same")));
  put(application, "/mode", file(large, 0o755));
  put(application, "/other", file(Buffer.alloc(100_000, "else")));
  const { tree } = addApplication(root, applicationOf(application), {} as GuestConfig);
  const shared = ["same", "small", "mode", "other"].filter((name) => {
    const node = lookup(tree, `/app/rootfs/${name}`);
    return node === lookup(tree, "/large") || node === lookup(tree, "/small");
  });
  deepEqual(shared, ["same"]);
});
