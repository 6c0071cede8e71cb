// SPDX-License-Identifier: Apache-2.0
/**
 * Under which licences a Debian package's files are, as its own copyright file says. Names are the file's: Debian's short
 * names where it is machine-readable (copyright-format 1.0), the common licences that it refers to where it is not.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { fromUtf8 } from "@caisson/vocabulary/bytes";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { z } from "zod";
import { readDeb } from "./deb.ts";
import type { LockedPackage } from "./lock.ts";

/** `/usr/share/doc/<name>`, which may be a link to another package's, and the file in it. */
const documents = /^usr\/share\/doc\/[^/]+(?:\/copyright)?$/;
/** A copyright file is text of some hundred KiB at the most; names are short. */
const largest = 4 << 20;
const most = 200;
const short = 120;

/** The copyright file of an archive, or the name of the package whose file stands for it; undefined for neither. */
async function copyrightOf(archive: string): Promise<string | { sameAs: string } | undefined> {
  for await (const entry of readDeb(archive)) {
    if (!documents.test(entry.path)) continue;
    if (entry.kind === "symlink")
      return { sameAs: posix.basename(posix.dirname(posix.join(entry.target, "x"))) };
    if (entry.kind === "file") return fromUtf8(entry.content.subarray(0, largest));
  }
  return undefined;
}

/** Raise it when the rules below find other licences. */
const rules = 1;
/** What a package's archive says: its licences, or whose documents stand for its own. */
const toldSchema = z.union([
  z.strictObject({ licences: z.array(z.string().max(short)).max(most) }),
  z.strictObject({ sameAs: z.string() }),
]);
type Told = z.infer<typeof toldSchema>;

/** What the archive of a package says; read once, then kept in the cache, as reading a hundred takes half a second. */
async function toldBy({ sha256 }: LockedPackage, archive: string, cache: string): Promise<Told> {
  const kept = join(cache, "licences", `${rules}-${sha256}.json`);
  try {
    return toldSchema.parse(JSON.parse(await readFile(kept, "utf8")));
  } catch {
    // Not there, or not whole: the archive says it again.
  }
  const copyright = await copyrightOf(archive);
  const told =
    typeof copyright === "object"
      ? copyright
      : { licences: copyright === undefined ? [] : licencesOf(copyright) };
  makeDirectory(join(cache, "licences"));
  await writeFile(`${kept}.${process.pid}`, JSON.stringify(told));
  await rename(`${kept}.${process.pid}`, kept);
  return told;
}

/**
 * Licences by "name version" of Debian packages; where one's documents are another's, those of the other, if it is among
 * them. `archive` says where a package's archive lies.
 */
export async function debianLicences(
  packages: readonly LockedPackage[],
  archive: (locked: LockedPackage) => string,
  cache: string,
): Promise<Map<string, string[]>> {
  const found = new Map<string, Told>();
  for (const locked of packages) found.set(locked.name, await toldBy(locked, archive(locked), cache));
  return new Map(
    packages.map(({ name, version }) => {
      let told = found.get(name);
      if (told !== undefined && "sameAs" in told) told = found.get(told.sameAs);
      return [`${name} ${version}`, told !== undefined && "licences" in told ? told.licences : []];
    }),
  );
}

/** Names of the licences in a copyright file, sorted, each once. */
export function licencesOf(copyright: string): string[] {
  const names = /^Format:\s*https?:\/\/www\.debian\.org\/doc\/packaging-manuals\/copyright-format/m.test(
    copyright,
  )
    ? [...copyright.matchAll(/^License:[ \t]*(\S.*?)[ \t]*$/gm)].map((match) => match[1]!)
    : [...copyright.matchAll(/\/usr\/share\/common-licenses\/([A-Za-z0-9.+-]*[A-Za-z0-9+])/g)].map(
        (match) => match[1]!,
      );
  return [...new Set(names.map((name) => name.slice(0, short)))].sort().slice(0, most);
}
