// SPDX-License-Identifier: Apache-2.0
/**
 * The npm packages whose content enters an image, as `package-lock.json` pins them: the Node binary, and what the
 * guest's program is bundled from. npm checks their integrity when it downloads them; what is installed is compared with
 * it at each build (`npm-content.ts`).
 */

import { readFile } from "node:fs/promises";
import { messageOf } from "@caisson/vocabulary/failure";
import * as z from "zod";
import { ImageError } from "../errors.ts";

/** `integrity` is Subresource Integrity: "sha512-…". */
export interface LockedNpmPackage {
  name: string;
  version: string;
  integrity: string;
}

/** package-lock.json, version 3: `packages` by their place; a workspace's link carries `resolved`. */
const schema = z.object({
  lockfileVersion: z.literal(3),
  packages: z.record(
    z.string(),
    z.object({
      version: z.string().optional(),
      integrity: z.string().optional(),
      license: z.string().optional(),
      link: z.boolean().optional(),
      resolved: z.string().optional(),
      dependencies: z.record(z.string(), z.string()).optional(),
    }),
  ),
});

/** What Node's module resolution finds for `name` from the package at `from`. */
function locate(
  packages: z.infer<typeof schema>["packages"],
  from: string,
  name: string,
): string | undefined {
  for (let at: string | undefined = from; at !== undefined; ) {
    const place: string = at === "" ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    const found = packages[place];
    if (found !== undefined) return found.link === true ? found.resolved : place;
    if (at === "") break;
    const up = at.lastIndexOf("/");
    at = up === -1 ? "" : at.slice(0, up);
  }
  return undefined;
}

const refusal = (file: string, message: string) =>
  new ImageError("lock/npm", `${file}: ${message}`, { kind: "internal" });

/** A package-lock.json's packages by their place. Throws ImageError `lock/npm`. */
async function readPackageLock(file: string): Promise<z.infer<typeof schema>["packages"]> {
  const refuse = (message: string) => refusal(file, message);
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw refuse(error.message);
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse(messageOf(error));
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw refuse(parsed.error.issues[0]!.message);
  return parsed.data.packages;
}

/**
 * The packages that `roots` (package names, ours or others') lead to, ours left out, sorted by name. `file` is a
 * package-lock.json. Throws ImageError `lock/npm`.
 */
export async function npmPackages(file: string, roots: readonly string[]): Promise<LockedNpmPackage[]> {
  const refuse = (message: string) => refusal(file, message);
  const packages = await readPackageLock(file);
  const found = new Map<string, LockedNpmPackage>();
  const seen = new Set<string>();
  const visit = (from: string, name: string) => {
    const place = locate(packages, from, name);
    if (place === undefined) throw refuse(`'${name}', which ${from || "an image"} needs, is not there`);
    if (seen.has(place)) return;
    seen.add(place);
    const { version, integrity, dependencies } = packages[place]!;
    if (place.includes("node_modules/")) {
      if (version === undefined || integrity === undefined) throw refuse(`'${name}' has no integrity`);
      found.set(place, { name, version, integrity });
    }
    for (const dependency of Object.keys(dependencies ?? {})) visit(place, dependency);
  };
  for (const root of roots) visit("", root);
  const key = ({ name, version }: LockedNpmPackage) => `${name} ${version}`;
  return [...found.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** Licences by "name version", as a package-lock.json has them from the registry. Throws ImageError `lock/npm`. */
export async function npmLicences(file: string): Promise<Map<string, string[]>> {
  const packages = await readPackageLock(file);
  return new Map(
    Object.entries(packages).flatMap(([place, { version, license }]) =>
      license === undefined ? [] : [[`${nameAt(place)} ${version}`, [license]] as const],
    ),
  );
}

const nameAt = (place: string): string =>
  place.slice(place.lastIndexOf("node_modules/") + "node_modules/".length);

/** What `file` pins at a place ("node_modules/zod"). Throws ImageError `lock/npm`. */
export async function lockedAt(file: string, place: string): Promise<LockedNpmPackage> {
  const packages = await readPackageLock(file);
  const { version, integrity } = (Object.hasOwn(packages, place) ? packages[place] : undefined) ?? {};
  if (version === undefined || integrity === undefined) {
    throw refusal(file, `'${place}' is not pinned there`);
  }
  return {
    name: nameAt(place),
    version,
    integrity,
  };
}
