// SPDX-License-Identifier: Apache-2.0
/**
 * Where the Debian archive is: `--mirror`, `CAISSON_MIRROR`, or the machine's apt configuration.
 *
 * No host name is built in. A mirror is not trusted: what it serves is checked against signatures and hashes.
 * Formats: sources.list(5), both the one-line and the deb822 style.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ImageError } from "../errors.ts";

/** Debian's two archives: security updates live under a base URI of their own. */
export type ArchiveName = "debian" | "debian-security";

/** Base URI of each archive, without a trailing slash. */
export type Mirrors = Readonly<Record<ArchiveName, string>>;

/** One apt source, whichever way it was written. */
interface Source {
  uri: string;
  suite: string;
}

/** Debian's own suites, so that the sources of other vendors are left alone. */
const debianSuite =
  /^(?:(?:old)*stable|testing|unstable|bullseye|bookworm|trixie|forky|duke|sid)(?:-[a-z-]+|\/updates)?$/;
const isSecurity = (suite: string) => /(?:-security|\/updates)$/.test(suite);

function parseOneLine(text: string): Source[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/.exec(line.replace(/#.*/, ""));
    return match === null ? [] : [{ uri: match[1]!, suite: match[2]! }];
  });
}

function parseDeb822(text: string): Source[] {
  const lines = text.split("\n").filter((line) => !line.startsWith("#"));
  return lines
    .join("\n")
    .split(/\n\s*\n/)
    .flatMap((paragraph) => {
      const words = (field: string) =>
        new RegExp(`^${field}:((?:.*)(?:\\n[ \\t].*)*)`, "im").exec(paragraph)?.[1]?.trim().split(/\s+/) ??
        [];
      if (
        !words("Types").includes("deb") ||
        /^(?:no|false|off|0|without|disable)$/i.test(words("Enabled")[0] ?? "yes")
      )
        return [];
      return words("URIs").flatMap((uri) => words("Suites").map((suite) => ({ uri, suite })));
    });
}

const nameOne =
  "name a Debian mirror with --mirror URI or CAISSON_MIRROR: the directory that has dists and pool";

function base(uri: string, from: string): string {
  const url = URL.parse(uri);
  if (
    url === null ||
    (url.protocol !== "http:" && url.protocol !== "https:") ||
    url.search !== "" ||
    url.hash !== ""
  ) {
    throw new ImageError(
      "lock/no-mirror",
      `'${uri}' (${from}) is not the http or https URI of a Debian mirror`,
      { kind: "usage", fix: nameOne },
    );
  }
  return url.href.replace(/\/+$/, "");
}

/** The sources of one apt configuration directory, in apt's order. Unreadable files are left out, as apt does. */
async function aptSources(directory: string): Promise<Source[]> {
  const parts = join(directory, "sources.list.d");
  const names = (await readdir(parts).catch((): string[] => [])).toSorted();
  const files = [join(directory, "sources.list"), ...names.map((name) => join(parts, name))];
  const sources: Source[] = [];
  for (const file of files) {
    const parser = file.endsWith(".sources")
      ? parseDeb822
      : file.endsWith(".list")
        ? parseOneLine
        : undefined;
    if (parser !== undefined) sources.push(...parser(await readFile(file, "utf8").catch(() => "")));
  }
  return sources;
}

/**
 * The archive's base URIs. `mirror` (from the command line or `CAISSON_MIRROR`) wins over the apt configuration; the
 * security archive is then its sibling `<mirror>-security`, as on Debian's own mirrors. So it is, too, where apt names
 * no security source. Throws ImageError `lock/no-mirror`.
 */
export async function findMirrors(
  options: { mirror?: string; aptDirectory?: string } = {},
): Promise<Mirrors> {
  if (options.mirror !== undefined) {
    const debian = base(options.mirror, "--mirror or CAISSON_MIRROR");
    return { debian, "debian-security": `${debian}-security` };
  }
  const directory = options.aptDirectory ?? "/etc/apt";
  const sources = (await aptSources(directory)).filter(
    ({ uri, suite }) => debianSuite.test(suite) && /^https?:/.test(uri),
  );
  const main = sources.find(({ suite }) => !isSecurity(suite));
  const security = sources.find(({ suite }) => isSecurity(suite));
  if (main === undefined) {
    throw new ImageError("lock/no-mirror", `${directory} names no Debian archive over http or https`, {
      kind: "usage",
      fix: nameOne,
    });
  }
  const debian = base(main.uri, directory);
  return {
    debian,
    "debian-security": security === undefined ? `${debian}-security` : base(security.uri, directory),
  };
}
