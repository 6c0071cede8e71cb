// SPDX-License-Identifier: Apache-2.0
/**
 * A fresh machine: a minimal Debian root with its own Node and npm, made by mmdebstrap from the mirror of this machine's
 * apt configuration, and a way to run commands in it.
 *
 * Two ways in: "chroot" is the plainest there is (`/` is not a mount point, and user namespaces are refused), "pivot"
 * makes the root the machine's own, as a container does. Both in mount and process namespaces that end with the command.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { findMirrors } from "@caisson/image/mirror";

export const suites = { bookworm: 12, trixie: 13 } as const;
export type Suite = keyof typeof suites;

export interface FreshRoot {
  suite: Suite;
  directory: string;
  /** Added to the environment of every command: how this machine reaches npm's registry. */
  env: Record<string, string>;
}

/** A directory of this machine that a command sees at a place of the root. */
export interface Bind {
  source: string;
  place: string;
}

export interface EnterOptions {
  way: "chroot" | "pivot";
  /** In the root. */
  cwd: string;
  user?: { name: string; id: number };
  binds?: readonly Bind[];
}

const packages = ["nodejs", "npm"];
const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 26 });

/** The settings of this machine's apt that decide how it fetches: proxies, whether an old index is believed. */
function aptSettings(): string {
  const lines = run("apt-config", ["dump"]).split("\n");
  return lines.filter((line) => /^Acquire::\S+ ".+";$/.test(line)).join("\n");
}

/** How npm of this machine reaches its registry: the address, and the authorities that TLS trusts. */
function npmEnvironment(directory: string): Record<string, string> {
  const env: Record<string, string> = {
    npm_config_registry: run("npm", ["config", "get", "registry"]).trim(),
  };
  const bundle = process.env["NODE_EXTRA_CA_CERTS"] ?? run("npm", ["config", "get", "cafile"]).trim();
  if (existsSync(bundle)) {
    const place = "usr/local/share/registry-authorities.pem";
    copyFileSync(bundle, join(directory, place));
    env["NODE_EXTRA_CA_CERTS"] = env["npm_config_cafile"] = `/${place}`;
  }
  for (const name of ["http_proxy", "https_proxy", "no_proxy"]) {
    if (process.env[name] !== undefined) env[name] = process.env[name];
  }
  return env;
}

/** Makes the root in `directory`, from `archives` (a directory that keeps roots as tar files) where it has one. */
export async function makeRoot(
  suite: Suite,
  directory: string,
  archives: string | undefined,
): Promise<FreshRoot> {
  const { debian, "debian-security": security } = await findMirrors();
  const sources = [
    `deb ${debian} ${suite} main`,
    `deb ${debian} ${suite}-updates main`,
    `deb ${security} ${suite}-security main`,
  ];
  const tar = join(archives ?? directory, `${suite}.tar`);
  mkdirSync(directory, { recursive: true });
  if (!existsSync(tar)) {
    mkdirSync(archives ?? directory, { recursive: true });
    const wanted = ["--variant=minbase", "--mode=root", `--include=${packages.join(",")}`];
    const settings = aptSettings()
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => `--aptopt=${line.replace(/;$/, "")}`);
    run("mmdebstrap", [...wanted, ...settings, "--format=tar", suite, `${tar}.part`, ...sources]);
    renameSync(`${tar}.part`, tar);
  }
  const root = join(directory, "root");
  mkdirSync(root);
  run("tar", ["-xf", tar, "-C", root, "--numeric-owner"]);
  for (const file of ["/etc/resolv.conf", "/etc/hosts"]) copyFileSync(file, join(root, file));
  // A container's image forbids services to start, too.
  writeFileSync(join(root, "usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  return { suite, directory: root, env: npmEnvironment(root) };
}

/** Arguments: root, way, working directory, pairs of source and place, `--`, command. */
const script = `set -e
root=$1 way=$2 directory=$3; shift 3
[ "$way" = chroot ] || mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  shift 2
done
shift
if [ "$way" = pivot ]; then
  cd "$root"
  pivot_root . mnt
  umount -l /mnt
  root=/
fi
exec chroot "$root" /usr/bin/env --chdir="$directory" "$@"`;

/** Starts `command` in the root; its output is piped, its input is empty, and it leads a process group. */
export function enter(root: FreshRoot, command: readonly string[], options: EnterOptions): ChildProcess {
  const { way, cwd, user, binds = [] } = options;
  const drop =
    user === undefined ? [] : ["setpriv", `--reuid=${user.id}`, `--regid=${user.id}`, "--clear-groups"];
  const home = user === undefined ? "/root" : `/home/${user.name}`;
  const env = { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", HOME: home, TERM: "dumb", ...root.env };
  const pairs = binds.flatMap(({ source, place }) => [source, place]);
  const flags = ["--mount", "--pid", "--fork", "--kill-child"];
  const inner = ["sh", "-c", script, "sh", root.directory, way, cwd, ...pairs, "--", ...drop, ...command];
  return spawn("unshare", [...flags, ...inner], { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
}

/** Where programs of `user` keep what they fetched. */
export const cachePlaces = (user?: { name: string }): { npm: string; caisson: string } => {
  const home = user === undefined ? "/root" : `/home/${user.name}`;
  return { npm: `${home}/.npm`, caisson: `${home}/.cache/caisson` };
};

/** What this machine's own builds left, to begin a cache with. */
export const ownCache = (): string => process.env["CAISSON_CACHE"] ?? join(homedir(), ".cache/caisson");
