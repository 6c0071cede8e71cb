// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { plainService } from "@caisson/protocol/testing/service";
import { addMountPoints } from "./mount-points.ts";
import { type DirectoryNode, directory, lookup, put, walk } from "./tree.ts";

const file = { kind: "file", mode: 0o600, content: Buffer.from("mine") } as const;
const contained = (change = {}) =>
  plainService({ isolation: "contained", readOnly: false, socket: false, key: false, ...change });
const paths = (root: DirectoryNode) => [...walk(root)].map(([path, { kind }]) => `${path} ${kind}`);

test("a plain service needs four directories and its resolver", () => {
  const root = directory();
  addMountPoints(root, [plainService()], []);
  deepEqual(paths(root), [
    "/dev directory",
    "/etc directory",
    "/etc/resolv.conf file",
    "/proc directory",
    "/run directory",
    "/tmp directory",
  ]);
});

test("a contained service has what it mounts, and its working directory; what is there stays", () => {
  const root = directory();
  put(root, "/etc/hosts", file);
  put(root, "/var/run", { kind: "symlink", target: "../run" });
  const service = contained({
    workingDirectory: "/srv/app",
    readOnly: true,
    socket: true,
    key: true,
    mounts: [{ target: "/var/run/data", readOnly: false, copyUp: true }],
    tmpfs: [{ target: "/cache", size: 4096, mode: 0o755, user: 0, group: 0, executable: false }],
    files: [
      { target: "/etc/app/one", source: "/app/web/files/0", mode: 0o444, user: 0, group: 0 },
      { target: "/conf.d", source: "/app/web/files/1", mode: 0o444, user: 0, group: 0 },
    ],
  });
  const files = [
    { path: "/app/web/files/0", node: file },
    { path: "/app/web/files/1", node: directory() },
  ];
  addMountPoints(root, [service], files);
  equal(lookup(root, "/etc/hosts"), file);
  deepEqual(lookup(root, "/tmp"), directory(0o1777));
  const kinds = [
    "/srv/app",
    "/run/data",
    "/cache",
    "/etc/app/one",
    "/conf.d",
    "/run/caisson.sock",
    "/run/secrets/caisson-key",
    "/sys",
  ].map((path) => lookup(root, path)?.kind);
  deepEqual(kinds, ["directory", "directory", "directory", "file", "directory", "file", "file", "directory"]);
  const once = paths(root);
  addMountPoints(root, [service], files);
  deepEqual(paths(root), once);
});

test("a volume where the image has nothing belongs to the service's user; what the image has stays whose it is", () => {
  const root = directory();
  put(root, "/var/lib/has", directory());
  const mounts = ["/data", "/var/lib/has", "/var/lib/deep/er"].map((target) => ({
    target,
    readOnly: false,
    copyUp: true,
  }));
  addMountPoints(root, [contained({ user: 65532, group: 100, mounts })], []);
  const owners = ["/data", "/var/lib/has", "/var/lib/deep", "/var/lib/deep/er"].map(
    (path) => lookup(root, path)?.owner,
  );
  const own = { user: 65532, group: 100 };
  deepEqual(owners, [own, undefined, undefined, own]);
});

test("refused: a mount where the image has something else, and a link that leads in circles", () => {
  const root = directory();
  put(root, "/data", file);
  put(root, "/loop", { kind: "symlink", target: "loop" });
  const at = (target: string) => () =>
    addMountPoints(root, [contained({ mounts: [{ target, readOnly: false, copyUp: true }] })], []);
  throws(at("/data"), { code: "app/mount" });
  throws(at("/data/below"), { code: "app/mount" });
  throws(at("/loop/x"), { code: "app/mount" });
});

test("a link out of the root stays in it", () => {
  const root = directory();
  put(root, "/out", { kind: "symlink", target: "../../../up" });
  addMountPoints(root, [contained({ mounts: [{ target: "/out/x", readOnly: false, copyUp: true }] })], []);
  equal(lookup(root, "/up/x")?.kind, "directory");
});
