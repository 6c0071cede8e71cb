// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson build examples/hello` with everything real: the pinned packages from the mirror, the pinned kernel, and the
 * tools that read what comes out. The first run on a machine compiles the kernel; later ones take it from the cache.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Manifest } from "@caisson/image/manifest";
import { onSmallDisk } from "@caisson/image/testing/small-disk";
import { namespaces } from "@caisson/image/toolchain";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { cyclonedxFaults } from "../support/cyclonedx.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = temporaryDirectory("build");

const cli = (...args: string[]) => [join(repository, "packages/cli/src/main.ts"), "build", ...args];
const hello = join(repository, "examples/hello");

function build(out: string, ...args: string[]) {
  const run = spawnSync(process.execPath, cli(hello, "--out", join(place, out), ...args), {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
  return { ...run, directory: join(place, out) };
}

const manifestOf = (out: string): Manifest =>
  JSON.parse(readFileSync(join(place, out, "manifest.json"), "utf8"));

/** Every file below a directory, links not followed (`readdir`'s own recursion follows them), by relative path. */
function files(at: string, below = ""): string[] {
  return readdirSync(join(at, below), { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(below, entry.name);
      if (entry.isDirectory()) return files(at, path);
      return entry.isFile() ? [path] : [];
    })
    .sort();
}

before(() => {
  const { status, stderr } = build("first", "--flavour", "development", "--jobs", "2");
  equal(status, 0, stderr);
});

test("another directory, another job count, no mirror: the same bytes, from the cache alone", () => {
  const nowhere = "http://127.0.0.1:9/debian";
  const second = build(
    "deeper/second",
    "--flavour",
    "development",
    "--jobs",
    "1",
    "--mirror",
    nowhere,
    "--json",
  );
  equal(second.status, 0, second.stderr);
  const first = join(place, "first");
  deepEqual(files(second.directory), files(first));
  for (const file of files(first)) {
    ok(readFileSync(join(first, file)).equals(readFileSync(join(second.directory, file))), file);
  }
  deepEqual(JSON.parse(second.stdout).manifest, manifestOf("first"));
});

test("every file is as large as the manifest says, with its hash", () => {
  const { kernel, rootfs, firmware, sbom } = manifestOf("first");
  for (const { file, size, sha256 } of [
    kernel,
    rootfs,
    firmware.emulated.code,
    firmware.emulated.variables,
    firmware.tdx.code,
    sbom,
  ]) {
    const bytes = readFileSync(join(place, "first", file));
    equal(bytes.length, size, file);
    equal(hash("sha256", bytes), sha256, file);
  }
});

test("the root that fsck.erofs unpacks is the bill of materials, file by file", () => {
  const extracted = join(place, "extracted");
  const run = spawnSync("fsck.erofs", [`--extract=${extracted}`, join(place, "first/rootfs.img")], {
    encoding: "utf8",
  });
  equal(run.status, 0, run.stderr);
  interface Component {
    type: string;
    name: string;
    hashes?: { content: string }[];
    components?: Component[];
  }
  const bom = JSON.parse(readFileSync(join(place, "first/sbom.cdx.json"), "utf8")) as {
    components: Component[];
  };
  const listed = bom.components
    .flatMap(({ components }) => components ?? [])
    .map(({ name, hashes }) => `${name} ${hashes?.[0]?.content}`)
    .sort();
  const found = files(extracted).map(
    (file) => `/${file} ${hash("sha256", readFileSync(join(extracted, file)))}`,
  );
  deepEqual(found.sort(), listed);

  const special = files(extracted).filter((file) => (statSync(join(extracted, file)).mode & 0o7000) !== 0);
  deepEqual(special, [], "no setuid, setgid or sticky bit");
  const shells = files(extracted).filter((file) =>
    /(?:^|\/)(?:(?:ba|da|z|a|k|c|tc|fi)?sh|busybox)$/.test(file),
  );
  deepEqual(shells, [], "no shell");
});

test("the bill of materials is what CycloneDX's schema asks for, and its references are whole", () => {
  const text = readFileSync(join(place, "first/sbom.cdx.json"), "utf8");
  deepEqual(cyclonedxFaults(JSON.parse(text)), []);
});

test("Node and crun start with the libraries that are in the root", async () => {
  const extracted = join(place, "extracted");
  const flags = await namespaces();
  const inside = (...command: string[]) =>
    spawnSync("unshare", [...flags, "--mount", "chroot", ...command], { encoding: "utf8" });
  const addon = "Object.keys(require('/usr/lib/caisson/syscalls.node')).length > 0";
  const node = inside(extracted, "/usr/bin/node", "-p", addon);
  equal(node.stdout, "true\n", node.stderr);
  const application = inside(join(extracted, "app/rootfs"), "/usr/bin/node", "--version");
  equal(application.stdout, `v${manifestOf("first").versions.node}\n`, application.stderr);
  // Without /proc crun cannot go on; that it says so shows that the loader found everything.
  const crun = inside(extracted, "/usr/bin/crun", "--version");
  ok(!/error while loading shared libraries/.test(crun.stderr), crun.stderr);
});

test("veritysetup accepts the root hash of the manifest", () => {
  const { rootHash, salt, dataBlocks } = manifestOf("first").rootfs.verity;
  const image = join(place, "first/rootfs.img");
  const geometry = ["--data-block-size=4096", "--hash-block-size=4096", `--data-blocks=${dataBlocks}`];
  const tree = [`--hash-offset=${dataBlocks * 4096}`, `--salt=${salt}`, "--hash=sha256", "--format=1"];
  const run = spawnSync(
    "veritysetup",
    ["verify", "--no-superblock", ...geometry, ...tree, image, image, rootHash],
    { encoding: "utf8" },
  );
  equal(run.status, 0, run.stderr);
});

test("a build that is killed leaves nothing in place, and the next one succeeds", {
  timeout: 120_000,
}, async () => {
  const out = join(place, "killed");
  const beside = () => readdirSync(place).filter((name) => name.startsWith(".killed"));
  const child = spawn(process.execPath, cli(hello, "--flavour", "development", "--out", out), {
    stdio: "ignore",
  });
  while (beside().length === 0) await delay(5);
  child.kill("SIGKILL");
  await once(child, "exit");
  equal(existsSync(out), false);
  equal(build("killed", "--flavour", "development").status, 0);
  deepEqual(manifestOf("killed"), manifestOf("first"));
  deepEqual(beside(), []);
});

test("a full disk is said, leaves nothing in place, and the next build with room succeeds", async () => {
  const disk = join(place, "disk");
  mkdirSync(disk);
  const command = [process.execPath, ...cli(hello, "--out", join(disk, "image"), "--flavour", "development")];
  // Afterwards what lies on the small disk can be seen from nowhere else.
  const script = `"$@" --json; echo "status $?"; ls -A ${disk}; mount -o remount,size=1g ${disk}
    "$@" >&2; echo "status $?"; cat ${disk}/image/manifest.json`;
  const { stdout, stderr } = await onSmallDisk(disk, "32m", ["sh", "-c", script, "sh", ...command]);
  const [failure, rest] = stdout.split("status 75\n");
  equal(JSON.parse(failure!).error.code, "build/disk");
  match(stderr, /cannot make .*disk\/image: there is no room {3}\[build\/disk\]/);
  match(rest!, /^status 0\n/, stderr);
  deepEqual(JSON.parse(rest!.slice("status 0\n".length)), manifestOf("first"));
});

const own = join(place, "own");
mkdirSync(own);
writeFileSync(join(own, "letter"), "mine");
const wrong: [what: string, args: string[], status: number, message: RegExp][] = [
  ["no spec", ["/nowhere"], 2, /\[spec\/unreadable\]/],
  ["an unknown flavour", [hello, "--flavour", "debug"], 2, /flavour/],
  ["no jobs", [hello, "--jobs", "0"], 2, /jobs/],
  ["an unknown option", [hello, "--nope"], 2, /--nope\S*\n {2}try {2}caisson build --help/],
  ["a directory of somebody's files", [hello, "--out", own], 2, /\[build\/occupied\]/],
];
for (const [what, args, status, message] of wrong) {
  test(`refused: ${what}`, () => {
    const run = spawnSync(process.execPath, cli(...args), { encoding: "utf8" });
    match(run.stderr, message);
    equal(run.status, status);
    deepEqual(readdirSync(own), ["letter"]);
  });
}
