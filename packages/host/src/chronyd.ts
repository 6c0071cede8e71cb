// SPDX-License-Identifier: Apache-2.0
/**
 * chronyd, the program: Debian's chrony is unpacked into the repository's cache, never installed, as that would replace
 * the machine's own time daemon.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { messageOf } from "@caisson/vocabulary/failure";
import { HostError } from "./errors.ts";

/** A program and the environment in which it finds its libraries. */
export interface Chronyd {
  path: string;
  env: Record<string, string>;
}

const cache = new URL("../../../.cache/", import.meta.url).pathname;
const run = promisify(execFile);

/**
 * chronyd of the machine's own Debian release, so that it fits its C library. Unpacks it at the first call; falls
 * back to an installed one. Throws HostError `host/missing-program` that says what to do.
 */
export async function chronyd(): Promise<Chronyd> {
  const root = join(cache, "chrony");
  const unpacked = {
    path: join(root, "usr/sbin/chronyd"),
    env: {
      LD_LIBRARY_PATH: [join(root, "usr/lib/x86_64-linux-gnu"), join(root, "lib/x86_64-linux-gnu")].join(":"),
    },
  };
  if (existsSync(unpacked.path)) return unpacked;
  try {
    await unpackChrony(root);
    return unpacked;
  } catch (error) {
    const installed = "/usr/sbin/chronyd";
    if (existsSync(installed)) return { path: installed, env: {} };
    throw new HostError("host/missing-program", "chronyd cannot be had", {
      facts: [["cause", String(messageOf(error)).trim().split("\n").at(-1)!]],
      fix: "apt-get update, on a Debian or Ubuntu machine; nothing will be installed",
    });
  }
}

/** Downloads chrony and the libraries that it needs, by name, and unpacks them to `root`, all or nothing. */
async function unpackChrony(root: string): Promise<void> {
  makeDirectory(cache);
  const work = await mkdtemp(join(cache, "chrony-"));
  try {
    const skip = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
    const flags = skip.map((relation) => `--no-${relation}`);
    const depends = async (...args: string[]) => {
      const { stdout } = await run("apt-cache", ["depends", ...flags, ...args], { timeout: 60_000 });
      return stdout;
    };
    const direct = [...(await depends("chrony")).matchAll(/Depends: (lib\S+)/g)].map((match) => match[1]!);
    const all = (await depends("--recurse", ...direct)).match(/^lib\S+$/gm) ?? [];
    // The C library must be the machine's: it belongs to the program loader.
    const packages = ["chrony", ...new Set(all)].filter(
      (name) => !/^(libc6|libgcc-s1|libcrypt1)$/.test(name),
    );
    const options = { cwd: work, timeout: 300_000 };
    await run("apt-get", ["-qq", "-o", "APT::Sandbox::User=root", "download", ...packages], options);
    for (const file of await readdir(work)) {
      if (file.endsWith(".deb")) await run("dpkg-deb", ["-x", file, "root"], options);
    }
    await rename(join(work, "root"), root).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another process was faster
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
