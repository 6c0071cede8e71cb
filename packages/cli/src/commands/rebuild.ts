// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson rebuild RELEASE`: build the released image again from its lock, in a clean place, compare every file, and sign
 * what came out. Exit code 0 the same image, 10 another one; either is signed, for a rebuilder who saw a difference has to be
 * able to say so.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { release as kernelRelease, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type ErofsImage, openImageFile, readErofsImage } from "@caisson/audit/erofs-image";
import { type Artefact, type Lock, type Manifest, parseManifest, readLock, readSpec } from "@caisson/image";
import { lockPath } from "@caisson/image/lock";
import { type Envelope, ReleaseError, readStatement, signedBytes, writeStatement } from "@caisson/releases";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { readBounded } from "../judgement-files.ts";
import { writeNewFile } from "../output-file.ts";
import { openOwnerKey } from "../owner-keys.ts";
import { readPassphrase } from "../passphrase-file.ts";
import { prepare } from "../prepare.ts";
import {
  envelopeText,
  inWords,
  manifestPath,
  readEnvelopeFile,
  readIdentityFiles,
  writtenTime,
} from "../release-files.ts";
import { ownVersion } from "../version.ts";
import { Progress } from "../views/progress.ts";

const sha256 = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Every file of an image by name; the manifest names all but itself. */
export function filesOf({ kernel, rootfs, firmware, sbom }: Manifest): Map<string, string> {
  const parts = Object.values(firmware).flatMap(({ code, variables }): Artefact[] =>
    variables === undefined ? [code] : [code, variables],
  );
  return new Map([kernel, rootfs, ...parts, sbom].map(({ file, sha256: digest }) => [file, digest]));
}

/** The first file in which two images differ, in the order in which they are made; undefined where none does. */
export function firstDifference(
  released: { manifest: Manifest; bytes: Uint8Array },
  rebuilt: { manifest: Manifest; bytes: Uint8Array },
): { file: string; released: string; rebuilt: string } | undefined {
  const own = filesOf(rebuilt.manifest);
  for (const [file, digest] of filesOf(released.manifest)) {
    const found = own.get(file) ?? "missing";
    if (found !== digest) return { file, released: digest, rebuilt: found };
  }
  const [theirs, ours] = [sha256(released.bytes), sha256(rebuilt.bytes)];
  return theirs === ours ? undefined : { file: "manifest.json", released: theirs, rebuilt: ours };
}

/** The first path that two trees do not have alike, in alphabetical order: its content, kind, mode or owner. */
export function firstPath(released: ErofsImage["files"], rebuilt: ErofsImage["files"]): string | undefined {
  const paths = [...new Set([...released.keys(), ...rebuilt.keys()])].sort();
  return paths.find((path) => !isDeepStrictEqual(released.get(path), rebuilt.get(path)));
}

/** Where in the root two images differ first, if the released root lies beside its manifest. */
function pathInRoot(directory: string, { rootfs }: Manifest, rebuilt: string): string | undefined {
  const path = join(directory, rootfs.file);
  if (!existsSync(path)) return undefined;
  using theirs = openImageFile(path);
  using ours = openImageFile(join(rebuilt, rootfs.file));
  return firstPath(readErofsImage(theirs).files, readErofsImage(ours).files);
}

/**
 * Refuses what are not the sources of a release: what they gave would say nothing of it, and a signed difference would
 * stop it. Throws UsageError.
 */
export function checkSources({ caisson, lock }: Manifest, ownSources: string, ownLock: string): void {
  if (caisson.sources !== ownSources) {
    throw new UsageError(
      `the release was made by Caisson ${caisson.version} with sources ${caisson.sources}, and this one has ${ownSources}`,
      "rebuild with that Caisson (caisson --version prints its sources)",
    );
  }
  if (lock === ownLock) return;
  throw new UsageError(
    `the release was built from the lock ${lock}, and this one is ${ownLock}`,
    "the sources of the release, with its caisson.lock",
  );
}

/** SHA-256 over the packages that compile: name, version and hash of each, a line each. */
export function toolchainHash({ packages }: Pick<Lock, "packages">): string {
  const lines = packages
    .filter(({ groups }) => groups.includes("toolchain"))
    .map(({ name, version, sha256: digest }) => `${name} ${version} ${digest}\n`)
    .sort();
  return sha256(lines.join(""));
}

function systemName(): string {
  let name = "Linux";
  try {
    name = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? name;
  } catch {
    // A system without the file is called by its kernel.
  }
  return `${name}, kernel ${kernelRelease()}, ${process.arch}`.replace(/[^ -~]/g, "?").slice(0, 128);
}

interface Options {
  spec: string;
  manifest: string;
  identity: string;
  generation: string[];
  key: string;
  passphraseFile: string;
  cache?: string;
  mirror?: string;
  output: string;
  json?: boolean;
}

/** The sources and the manifest of a release, which belong together. Throws UsageError where they do not. */
async function readReleased(file: string, options: Options) {
  const { id } = await readIdentityFiles(options.identity, options.generation);
  const release = await readStatement("release", readEnvelopeFile(file));
  const path = manifestPath(options.manifest);
  const bytes = readBounded(path);
  if (release.predicate.app !== id || sha256(bytes) !== release.subjects[0]) {
    throw new UsageError(
      `${path} is not the manifest of the image that ${file} releases`,
      "the manifest that its publisher gives beside the release",
    );
  }
  const manifest = parseManifest(new TextDecoder().decode(bytes), path);
  const spec = await readSpec(options.spec);
  const lock = await readLock(spec);
  if (lock === undefined)
    throw new UsageError(`${options.spec} has no lock`, "the sources of the release, with caisson.lock");
  checkSources(manifest, ownVersion().sources, sha256(readFileSync(lockPath(spec))));
  return { id, release, path, bytes, manifest, spec, lock };
}

async function rebuild(file: string, options: Options): Promise<void> {
  const { id, release, path, bytes, manifest, spec, lock } = await readReleased(file, options);
  const key = openOwnerKey(options.key, readPassphrase(options.passphraseFile));
  const clean = mkdtempSync(join(tmpdir(), "caisson-rebuild-"));
  try {
    const built = await prepare(
      spec,
      manifest.flavour,
      {
        out: join(clean, "image"),
        cache: options.cache ?? join(clean, "cache"),
        mirror: options.mirror,
        ...(manifest.guest.app.identity !== undefined && { identity: readBounded(options.identity) }),
      },
      new Progress(),
    );
    const own = readBounded(join(built.directory, "manifest.json"));
    const difference = firstDifference({ manifest, bytes }, { manifest: built.manifest, bytes: own });
    const { version, sources } = ownVersion();
    const unsigned = writeStatement("rebuild", [sha256(own)], {
      app: id,
      release: release.hash,
      lock: built.manifest.lock,
      toolchain: toolchainHash(lock),
      caisson: `${version} ${sources.slice(0, 32)}`,
      system: systemName(),
      finished: writtenTime(Date.now()),
    });
    const envelope: Envelope = { ...unsigned, signatures: [key.sign(signedBytes(unsigned))] };
    writeNewFile(options.output, envelopeText(envelope));
    const inside =
      difference?.file === manifest.rootfs.file
        ? pathInRoot(dirname(path), manifest, built.directory)
        : undefined;
    const answer =
      options.json === true
        ? JSON.stringify(
            { same: difference === undefined, difference: difference && { ...difference, inside } },
            null,
            2,
          )
        : (await inWords(envelope)).join("\n");
    process.stdout.write(`${answer}\n`);
    if (difference !== undefined) throw differs(difference, inside, options.output);
  } finally {
    rmSync(clean, { recursive: true, force: true });
  }
}

/** The same sources gave another image. `inside`: the first path of its root that is another. */
const differs = (
  { file, released, rebuilt }: NonNullable<ReturnType<typeof firstDifference>>,
  inside: string | undefined,
  output: string,
): ReleaseError =>
  new ReleaseError(
    "rebuild/differs",
    `the same sources gave another image; first differs ${file}${inside === undefined ? "" : `, in it ${inside}`}`,
    {
      expected: released,
      actual: rebuilt,
      fix: `publish ${output}: it stops the release until its owners answer`,
    },
  );

export const command = new Command("caisson rebuild")
  .description(
    "Builds a released image again from its lock in a clean place, compares every file, and signs what came out: exit code 0 the same, 10 another.",
  )
  .argument("<RELEASE>", "the release, as its owners signed it")
  .requiredOption(
    "--spec <PATH>",
    "the sources: a caisson.yaml with its lock, or the directory that has them",
  )
  .requiredOption(
    "--manifest <FILE>",
    "the released image's manifest.json, or its directory, where a root that differs is looked into",
  )
  .requiredOption("--identity <FILE>", "the application's first identity document")
  .option("--generation <FILE...>", "signed later generations, in order", [])
  .requiredOption("--key <FILE>", "the rebuilder's key (caisson owner new)")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .option(
    "--cache <DIR>",
    "keep what is fetched and compiled here; what is there already is believed. A new one when left out",
  )
  .option("--mirror <uri>", "the Debian mirror (default: CAISSON_MIRROR, or the machine's apt configuration)")
  .requiredOption("--output <FILE>", "the new file: the signed rebuild")
  .option("--json", "one JSON document")
  .action(rebuild);
