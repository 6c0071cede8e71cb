// SPDX-License-Identifier: Apache-2.0
/**
 * Debian packages of other suites for tests, unpacked without installing: firmware generations, another QEMU. Fetched at
 * run time from the machine's own mirror into the repository's cache.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { qemuVersion } from "@caisson/host/fw-cfg";
import type { Qemu } from "@caisson/host/qtest";

const cache = new URL("../../.cache/debian/", import.meta.url).pathname;

interface Package {
  name: string;
  version: string;
  file: string;
  sha256: string;
  depends: string[];
}

/** Packages of one suite below one directory. `versions` by package name. */
export interface Unpacked {
  root: string;
  versions: Readonly<Record<string, string>>;
}

/** Unpacks `names` of `suite` (with everything they depend on, if asked). Throws when they cannot be had here. */
export async function unpackDebian(
  suite: string,
  names: readonly string[],
  options: { dependencies?: boolean } = {},
): Promise<Unpacked> {
  const mirror = debianMirror();
  if (mirror === undefined) throw new Error("no Debian mirror is configured on this machine");
  try {
    const index = await packageIndex(mirror, suite);
    const chosen = closure(index, names, options.dependencies === true);
    const key = createHash("sha256").update(JSON.stringify(chosen)).digest("hex").slice(0, 16);
    const root = join(cache, `${suite}-${names[0]}-${key}`);
    if (!existsSync(root)) await unpackInto(mirror, chosen, root);
    return { root, versions: Object.fromEntries(chosen.map(({ name, version }) => [name, version])) };
  } catch (error) {
    throw new Error(`${names.join(", ")} of Debian ${suite} cannot be had`, { cause: error });
  }
}

/** The QEMU of a suite, started by its own loader with its own libraries. Throws when its version begins otherwise. */
async function qemuOf(suite: string, version: string): Promise<Qemu> {
  const unpacked = await unpackDebian(suite, ["qemu-system-x86"], { dependencies: true });
  const at = (path: string) => join(unpacked.root, path);
  const directories = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/pulseaudio",
  ];
  const data = ["-L", at("usr/share/qemu"), "-L", at("usr/share/seabios")];
  // QEMU looks for its modules beside the directory of what was started, as if that were /usr/bin.
  const loader = at("usr/lib64/ld-linux-x86-64.so.2");
  // Not by the package's link in lib64, which names the machine's own loader where it is absolute: another suite's crashes.
  const own = directories
    .map((directory) => at(join(directory, "ld-linux-x86-64.so.2")))
    .find((path) => existsSync(path))!;
  if (!existsSync(loader) || !readFileSync(loader).equals(readFileSync(own))) {
    mkdirSync(at("usr/lib64"), { recursive: true });
    copyFileSync(own, `${loader}.${process.pid}`);
    renameSync(`${loader}.${process.pid}`, loader);
  }
  const qemu = {
    program: loader,
    prefix: ["--library-path", directories.map(at).join(":"), at("usr/bin/qemu-system-x86_64"), ...data],
  };
  const found = await qemuVersion(qemu);
  if (!found.startsWith(version)) throw new Error(`${suite} has QEMU ${found}, ${version} is needed`);
  return qemu;
}

/** QEMU 7.2 of bookworm, with which the boots of the trial were made. */
export const olderQemu = (): Promise<Qemu> => qemuOf("bookworm", "7.2.");

/** QEMU 10.0 of trixie. */
export const newerQemu = (): Promise<Qemu> => qemuOf("trixie", "10.0.");

function debianMirror(): string | undefined {
  const given = process.env["CAISSON_MIRROR"];
  if (given !== undefined) return given.replace(/\/$/, "");
  for (const path of ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]) {
    if (!existsSync(path)) continue;
    const match = /^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(https?:\S+)/m.exec(readFileSync(path, "utf8"));
    if (match !== null) return match[1]!.replace(/\/$/, "");
  }
  return undefined;
}

async function download(url: string): Promise<Buffer> {
  const response = await fetch(url, { signal: AbortSignal.timeout(120_000) });
  if (!response.ok) throw new Error(`the mirror answered ${response.status}`);
  return Buffer.from(await response.arrayBuffer());
}

/** The suite's amd64 index, at most a day old. Paragraphs are parsed only as far as tests need them. */
async function packageIndex(mirror: string, suite: string): Promise<Map<string, Package>> {
  const day = Math.floor(Date.now() / 86_400_000);
  const path = join(cache, `Packages-${suite}-${day}.xz`);
  if (!existsSync(path)) {
    mkdirSync(cache, { recursive: true });
    writeFileSync(
      `${path}.${process.pid}`,
      await download(`${mirror}/dists/${suite}/main/binary-amd64/Packages.xz`),
    );
    renameSync(`${path}.${process.pid}`, path);
  }
  const text = execFileSync("xz", ["-dc", path], { encoding: "utf8", maxBuffer: 512 << 20 });
  const index = new Map<string, Package>();
  for (const paragraph of text.split("\n\n")) {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(paragraph)?.[1] ?? "";
    const depends = field("Depends")
      .split(",")
      .map((alternatives) => /^\s*([a-z0-9.+-]+)/.exec(alternatives)?.[1] ?? "")
      .filter((name) => name !== "");
    const name = field("Package");
    index.set(name, {
      name,
      version: field("Version"),
      file: field("Filename"),
      sha256: field("SHA256"),
      depends,
    });
  }
  return index;
}

function closure(index: Map<string, Package>, names: readonly string[], dependencies: boolean): Package[] {
  const chosen = new Map<string, Package>();
  const waiting = [...names];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (chosen.has(name)) continue;
    const found = index.get(name);
    if (found === undefined) {
      if (names.includes(name)) throw new Error(`there is no package ${name}`);
      continue; // a virtual package
    }
    chosen.set(name, found);
    if (dependencies) waiting.push(...found.depends);
  }
  return [...chosen.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function unpackInto(mirror: string, packages: readonly Package[], root: string): Promise<void> {
  mkdirSync(cache, { recursive: true });
  const directory = mkdtempSync(join(cache, "unpacking-"));
  try {
    for (const { name, file, sha256 } of packages) {
      const bytes = await download(`${mirror}/${file}`);
      if (createHash("sha256").update(bytes).digest("hex") !== sha256) {
        throw new Error(`${name} does not have the hash that the index names`);
      }
      const deb = join(directory, "package.deb");
      writeFileSync(deb, bytes);
      execFileSync("dpkg-deb", ["-x", deb, join(directory, "root")]);
    }
    if (!existsSync(root)) renameSync(join(directory, "root"), root);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
