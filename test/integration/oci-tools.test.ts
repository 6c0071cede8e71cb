// SPDX-License-Identifier: Apache-2.0
/**
 * Images as people have them, made by the tools that they have: saved archives, layouts with several tags, a registry,
 * and what buildah mounts. Whatever the form, it is the same image.
 */
import { deepEqual, equal, notEqual, ok, rejects } from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freeTcpPort } from "@caisson/host/ports";
import { openImage, pinImages } from "@caisson/image/open";
import { parseReference } from "@caisson/image/reference";
import { type TarFile, writeTar } from "@caisson/image/tar-writer";
import { namespaces } from "@caisson/image/toolchain";
import fc from "fast-check";
import { isRoot, ours, type Rows, run, theirs, writeLayout } from "../support/image-tree.ts";
import { layerArchive, layerOf } from "../support/layers.ts";

/** In lower case, because buildah makes a name of it. */
const place = join(tmpdir(), `caisson-tools-${process.pid}`);
mkdirSync(place);
const documentation = readFileSync(new URL("../../docs/application.md", import.meta.url), "utf8");
const file = (path: string, text = path): TarFile => ({ path, mode: 0o644, content: Buffer.from(text) });
const folder = (path: string): TarFile => ({ path, mode: 0o755, content: "directory" });
const archive = (...files: TarFile[]) => Buffer.concat([...writeTar(files)]);
const layers = [
  archive(folder("etc"), file("etc/a"), file("etc/gone"), { path: "lib", mode: 0o777, content: { symlink: "usr/lib" } }),
  archive(folder("usr"), folder("usr/lib"), file("lib/x", "y".repeat(100_000)), file("etc/.wh.gone", "")),
]; // biome-ignore format: rows
const expected = ["/etc", "/etc/a", "/lib", "/usr", "/usr/lib", "/usr/lib/x"];

let server: ChildProcess;
let host: string;

/** Debian's docker-registry on loopback. */
async function startRegistry(): Promise<void> {
  const port = await freeTcpPort();
  host = `127.0.0.1:${port}`;
  const config = join(place, "registry.yml");
  const storage = { filesystem: { rootdirectory: join(place, "registry") } };
  const log = { level: "error", accesslog: { disabled: true } };
  writeFileSync(config, JSON.stringify({ version: "0.1", log, storage, http: { addr: host } }));
  server = spawn("docker-registry", ["serve", config], { stdio: "ignore" });
  const started = performance.now();
  for (;;) {
    const answer = await fetch(`http://${host}/v2/`).catch(() => undefined);
    if (answer?.ok === true) return;
    ok(performance.now() - started < 60_000 && server.exitCode === null, "docker-registry does not answer");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

before(async () => {
  writeLayout(join(place, "layout"), layers);
  writeFileSync(join(place, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
  await startRegistry();
});
after(async () => {
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await ended;
  rmSync(place, { recursive: true, force: true });
});

const options = {
  cache: join(place, "cache"),
  environment: { DOCKER_CONFIG: join(place, "no-docker") },
};

function skopeo(...args: string[]): void {
  const { ok: done, stderr } = run("skopeo", "--insecure-policy", "--tmpdir", place, ...args);
  ok(done, stderr);
}
const copy = (from: string, to: string, ...more: string[]) =>
  skopeo("copy", "--dest-tls-verify=false", ...more, from, to);

async function rows(name: string): Promise<Rows> {
  return ours((await openImage(parseReference(name, place), {}, options)).tree);
}

/**
 * How buildah is started by root. It makes `/` private before it unpacks a layer, which the kernel only does to a mount
 * point; in a plain chroot `/` is none, so buildah gets one: the same files, bound to a directory. And Debian 13's looks
 * for netavark, a package that is only recommended, before it does anything; nothing here has a network.
 */
async function buildahStart(cwd = place): Promise<[string, ...string[]]> {
  const [root, helpers, conf] = ["root", "helpers", "containers.conf"].map((name) => join(place, name));
  for (const directory of [root!, helpers!]) mkdirSync(directory, { recursive: true });
  rmSync(join(helpers!, "netavark"), { force: true });
  symlinkSync("/bin/false", join(helpers!, "netavark"));
  writeFileSync(conf!, `[engine]\nhelper_binaries_dir = ["${helpers}"]\n`);
  const rooted = ["--mount", "sh", "-c", 'mount --rbind / "$1" && exec chroot "$@"', "sh", root!];
  const set = ["env", `--chdir=${cwd}`, `CONTAINERS_CONF=${conf}`];
  return ["unshare", ...(await namespaces()), ...rooted, ...set, "buildah"];
}
const names = (found: Rows) => found.map((row) => row.split(" ")[0]);

test("saved archives hold the same image: docker-archive and oci-archive, by name, by tag, or alone", async () => {
  const wanted = await rows("./layout");
  deepEqual(names(wanted), expected);
  copy(`oci:${place}/layout:t`, `docker-archive:${place}/docker.tar:registry.example/team/app:1.0`);
  copy(`oci:${place}/layout:t`, `oci-archive:${place}/oci.tar:t`);
  for (const name of ["docker.tar", "docker.tar:1.0", "docker.tar:registry.example/team/app:1.0", "oci.tar", "oci.tar:t"])
    deepEqual(await rows(`./${name}`), wanted, name);
  await rejects(rows("./docker.tar:2.0"), { code: "oci/tag", message: /named '2.0'/ });
  await rejects(rows("./oci.tar:u"), { code: "oci/tag" });
}); // biome-ignore format: a list

test("a saved archive gives the same digest each time, and names what is wrong with it", async () => {
  const digest = async () => (await openImage(parseReference("./docker.tar", place), {}, options)).digest;
  equal(await digest(), await digest());
  const bytes = readFileSync(join(place, "docker.tar"));
  writeFileSync(join(place, "cut.tar"), bytes.subarray(0, 3000));
  await rejects(rows("./cut.tar"), { code: "archive/truncated" });
  const at = bytes.indexOf("y".repeat(1000));
  bytes[at + 5]! ^= 1;
  writeFileSync(join(place, "altered.tar"), bytes);
  await rejects(rows("./altered.tar"), { code: "oci/digest" });
  writeFileSync(join(place, "other.tar"), archive(file("a")));
  await rejects(rows("./other.tar"), { code: "oci/layout", message: /neither index.json nor manifest.json/ });
  writeFileSync(join(place, "packed.tar"), Buffer.from([0x1f, 0x8b, 8, 0]));
  await rejects(rows("./packed.tar"), { code: "oci/layout", fix: /gunzip/ });
});

test("a layout to which two tags were copied: the same image once, different ones by their tags", async () => {
  const [same, two] = [`${place}/same`, `${place}/two`];
  copy(`oci:${place}/layout:t`, `oci:${same}:1.0`);
  copy(`oci:${place}/layout:t`, `oci:${same}:latest`);
  deepEqual(names(await rows(same)), expected);
  cpSync(same, two, { recursive: true });
  writeLayout(`${place}/other`, [archive(file("other"))]);
  copy(`oci:${place}/other:t`, `oci:${two}:2.0`);
  await rejects(rows(two), { code: "oci/platform", fix: /DIRECTORY:1.0/ });
  deepEqual(names(await rows(`${two}:1.0`)), expected);
  deepEqual(names(await rows(`${two}:2.0`)), ["/other"]);
});

test("a registry: a tag is pinned, pulled by its digest, and moves only with the next lock", async () => {
  const wanted = await rows("./layout");
  const name = parseReference(`${host}/team/app:1.0`, place);
  const push = (from: string, ...more: string[]) =>
    copy(`oci:${from}:t`, `docker://${host}/team/app:1.0`, ...more);
  push(`${place}/layout`, "--dest-compress-format=zstd");
  const images = await pinImages([name], options);
  deepEqual(ours((await openImage(name, { images }, options)).tree), wanted);
  push(`${place}/other`);
  const moved = await pinImages([name], options);
  notEqual(moved[0]!.digest, images[0]!.digest);
  deepEqual(ours((await openImage(name, { images }, options)).tree), wanted);
  deepEqual(names(ours((await openImage(name, { images: moved }, options)).tree)), ["/other"]);
  await rejects(pinImages([parseReference(`${host}/team/app:none`, place)], options), {
    code: "oci/tag",
    message: /has no team\/app with 'none'/,
  });
});

test("an index of several platforms with attestations, pushed as it is", async () => {
  const blobs = join(place, "many/blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  cpSync(join(place, "layout/blobs"), join(place, "many/blobs"), { recursive: true });
  const [image] = (JSON.parse(readFileSync(join(place, "layout/index.json"), "utf8")) as { manifests: object[] }).manifests;
  const { annotations: _, ...descriptor } = image as { annotations: object };
  const platform = (os: string, architecture: string) => ({ ...descriptor, platform: { os, architecture } });
  const index = JSON.stringify({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [platform("linux", "amd64"), platform("unknown", "unknown")],
  });
  const digest = hash("sha256", index);
  writeFileSync(join(blobs, digest), index);
  writeFileSync(join(place, "many/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const named = { mediaType: "application/vnd.oci.image.index.v1+json", digest: `sha256:${digest}`, size: index.length };
  writeFileSync(join(place, "many/index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  deepEqual(names(await rows("./many")), expected);
  copy(`oci:${place}/many`, `docker://${host}/team/many:1`, "--all", "--preserve-digests");
  const name = parseReference(`${host}/team/many:1`, place);
  const images = await pinImages([name], options);
  equal(images[0]!.digest, `sha256:${digest}`);
  deepEqual(names(ours((await openImage(name, { images }, options)).tree)), expected);
}); // biome-ignore format: a document

/** Whether something is a hard link to a symlink: buildah's storage keeps no link between the two, nor the owner. */
function linksSymlink(rows: readonly string[]): boolean {
  const symlinks = new Set(rows.flatMap((row) => /^(\S+) \d+:\d+ -> /.exec(row)?.[1] ?? []));
  return rows.some((row) => symlinks.has(/ = (\S+)$/.exec(row)?.[1] ?? ""));
}

/** The command and the image's name in `caisson.yaml` of a row of the table in docs/application.md. */
function documented(tool: string): { command: string[]; image: string } {
  const row = documentation.split("\n").find((line) => line.startsWith(`| ${tool}`));
  const [, command, image] = /\| `([^`|]+)` \| `image: ([^`]+)` \|$/.exec(row ?? "") ?? [];
  ok(command !== undefined && image !== undefined, `docs/application.md has a row for ${tool}`);
  return { command: command.split(" "), image };
}

test("what docs/application.md says to write is read: skopeo from a registry, buildah from its storage", async () => {
  const wanted = await rows("./layout");
  copy(`oci:${place}/layout:t`, `docker://${host}/documented/app:1.0`);
  const name = `${host}/documented/app:1.0`;
  const storage = [
    "--storage-driver",
    "vfs",
    "--root",
    `${place}/documented`,
    "--runroot",
    `${place}/documented-run`,
  ];
  const trust = ["--signature-policy", join(place, "policy.json")];
  const tls = "--tls-verify=false";
  const tools: [tool: string, options: string[], afterwards: string[]][] = [
    ["skopeo", ["--insecure-policy", "--tmpdir", place], ["--src-tls-verify=false"]],
    ...(isRoot ? [["buildah", storage, trust] satisfies [string, string[], string[]]] : []),
  ]; // biome-ignore format: rows
  if (isRoot) ok(run(...(await buildahStart()), ...storage, "pull", ...trust, tls, name).ok);
  for (const [tool, before, after] of tools) {
    const { command, image } = documented(tool);
    const [, verb, ...rest] = command.map((word) => word.replace("NAME", name));
    const work = join(place, tool);
    mkdirSync(work);
    const words = [...before, verb!, ...after, ...rest];
    const [program, ...first] = tool === "buildah" ? await buildahStart(work) : ([tool] as const);
    const all = [...first, ...words];
    const { status, stderr } = spawnSync(program, all, { cwd: work, encoding: "utf8", timeout: 60_000 });
    equal(status, 0, `${tool} ${words.join(" ")}: ${stderr}`);
    deepEqual(ours((await openImage(parseReference(image, work), {}, options)).tree), wanted, tool);
  }
});

/** Many layers it refuses, because it does not make the directories behind a symlink; what it takes is the same. */
test("random layers: what buildah mounts is what we read", async () => {
  if (!isRoot) return; // buildah mounts for root alone
  const storage = ["--storage-driver", "vfs", "--root", `${place}/storage`, "--runroot", `${place}/run`];
  const start = await buildahStart();
  const buildah = (...args: string[]) => run(...start, ...storage, ...args);
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(layerOf(4), { minLength: 1, maxLength: 2 }), async (random) => {
      const directory = join(place, "random");
      // It makes the directory that a whiteout would have removed something from, and removes what stands earlier in
      // the same layer; umoci and the specification do neither, nor do we.
      const common = random.map(({ entries, end }) => ({
        entries: [
          ...entries.filter(({ path }) => path.startsWith(".wh.")),
          ...entries.filter(({ path }) => !path.includes(".wh.")),
        ],
        end,
      }));
      writeLayout(directory, common.map(layerArchive));
      const found = await rows("./random").catch((error: Error) => error);
      const { ok: accepted, stdout } = buildah(
        "from",
        "--signature-policy",
        join(place, "policy.json"),
        `oci:${directory}:t`,
      );
      if (!accepted || found instanceof Error || linksSymlink(found)) return;
      const mounted = buildah("mount", stdout.trim());
      deepEqual(found, theirs(mounted.stdout.trim()));
      compared++;
      buildah("rm", "--all");
    }),
    // The same layers each time: another tool's ways are not a reason for a run to fail by chance.
    { numRuns: 40, seed: 1, interruptAfterTimeLimit: 120_000, markInterruptAsFailure: false },
  );
  ok(compared > 3, `${compared} were compared`);
});
