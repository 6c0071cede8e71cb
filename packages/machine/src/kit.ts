// SPDX-License-Identifier: Apache-2.0
/**
 * The outsider's kit: one directory with all that a stranger needs to verify a running application: what the image is
 * (manifest, bill of materials, lock), what it must measure, the policy, collateral if there is some, and how to use it.
 *
 * Invariants: its reference values are those of its manifest's files. A kit is read as a whole: its `kit.json` names every
 * file with its hash, and a file that differs, is missing, or is not named is refused, so that nobody verifies by half of
 * one kit and half of another.
 */

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type Manifest, parseManifest, readManifest } from "@caisson/image/manifest";
import { readReferences } from "@caisson/verify";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import type { Flavour } from "@caisson/vocabulary/flavours";

export type KitErrorCode = "kit/incomplete" | "kit/occupied" | "kit/malformed" | "kit/altered" | "kit/lock";

class KitError extends Failure<KitErrorCode, "input" | "rejected"> {
  override readonly name = "KitError";
  constructor(code: KitErrorCode, message: string, fix: string) {
    super(code, code === "kit/altered" ? "rejected" : "input", message, { fix });
  }
}

/** Where a kit's parts are; collateral only where the kit has some. */
export interface Kit {
  directory: string;
  policy: string;
  references: string;
  collateral?: string;
  /** SHA-256 of the manifest, hex. */
  manifest: string;
}

const names = {
  manifest: "manifest.json",
  sbom: "sbom.cdx.json",
  lock: "caisson.lock",
  policy: "policy.yaml",
  references: "references.json",
  collateral: "collateral.json",
  readme: "README.md",
} as const;
const mark = "kit.json";

const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

/** Where `up` (development) and `instance` (production) leave what a relying party judges by. */
function relyingParty(image: string, flavour: Flavour) {
  const state = `${image}.state`;
  return flavour === "production"
    ? {
        policy: join(state, "relying-party", "policy.yaml"),
        references: join(state, "relying-party", "references.json"),
      }
    : {
        policy: join(state, "policy.json"),
        references: join(state, "references.json"),
        collateral: join(state, "collateral", "simulated.json"),
      };
}

const readme = ({ name, flavour, caisson }: Manifest, identity: string): string => `# Verify ${name}

This directory says what runs, and how to find out whether a machine that says so really runs it.
${flavour === "development" ? "\nDEVELOPMENT: the evidence of this image is emulated and proves nothing about hardware.\n" : ""}
    caisson verify --from http://HOST:PORT/ --kit .       # ask the running application for fresh evidence, and judge it
    caisson verify EVIDENCE.json --kit .                  # judge evidence that somebody gave you
    caisson audit --live http://HOST:PORT/                # development images: look at what runs inside

Before you rely on it, read policy.yaml: it is what you accept. It was written by whoever published this kit.
To check that manifest.json is what its sources give: caisson build SPEC with caisson.lock, and compare the manifests.
Caisson ${caisson.version} built it; caisson --version prints its sources as
${caisson.sources}.
manifest.json has SHA-256 ${identity}.
`;

/**
 * Writes the kit of an image into `out`, which must not be there yet. `lock` is the lock that the image was built from;
 * `collateral` replaces what lies beside the image. Throws KitError, ImageError.
 */
export function writeKit(image: string, out: string, lock: string, collateral?: string): Kit {
  const manifest = readManifest(image);
  const { policy, references, ...beside } = relyingParty(image, manifest.flavour);
  for (const path of [policy, references]) {
    if (existsSync(path)) continue;
    throw new KitError(
      "kit/incomplete",
      `there is no ${path}: nobody has said yet by what ${manifest.name} is judged`,
      manifest.flavour === "production"
        ? "caisson instance IMAGE, then publish"
        : "caisson up SPEC, then publish",
    );
  }
  if (!existsSync(lock) || sha256(lock) !== manifest.lock) {
    throw new KitError(
      "kit/lock",
      `${lock} is not the lock that the image was built from (${manifest.lock})`,
      "--lock FILE names it",
    );
  }
  if (existsSync(out) && readdirSync(out).length > 0) {
    throw new KitError("kit/occupied", `${out} is there already`, "name another directory with --out");
  }
  makeDirectory(out);
  const copies: [keyof typeof names, string][] = [
    ["manifest", join(image, "manifest.json")],
    ["sbom", join(image, manifest.sbom.file)],
    ["lock", lock],
    ["policy", policy],
    ["references", references],
  ];
  const given = collateral ?? ("collateral" in beside ? beside.collateral : undefined);
  if (given !== undefined) copies.push(["collateral", given]);
  for (const [name, path] of copies) copyFileSync(path, join(out, names[name]));
  checkReferences(join(out, names.references), manifest);
  const identity = sha256(join(out, names.manifest));
  writeFileSync(join(out, names.readme), readme(manifest, identity));
  const files = Object.fromEntries(
    readdirSync(out)
      .sort()
      .map((name) => [name, sha256(join(out, name))]),
  );
  const document = { version: "caisson/kit/v1", name: manifest.name, flavour: manifest.flavour, files };
  writeFileSync(join(out, mark), `${JSON.stringify(document, null, 2)}\n`);
  return readKit(out);
}

/** Registers that follow from an image's files alone. */
const ofTheFiles = ["mrtd", "rtmr1", "rtmr2"] as const;

/**
 * Refuses reference values of another image than the manifest's: each has to agree with one of its measurements in what
 * follows from the image's files. Throws KitError `kit/altered`.
 */
function checkReferences(path: string, { measurements }: Manifest): void {
  if (measurements === undefined) {
    throw new KitError(
      "kit/incomplete",
      "the manifest does not say what the image measures",
      "build the image again",
    );
  }
  const measured = readReferences({ measurements }, "the manifest");
  for (const { name, platform, registers } of readReferences(JSON.parse(readFileSync(path, "utf8")), path)) {
    const agrees = measured.some(
      (one) =>
        (platform === undefined || one.platform === platform) &&
        ofTheFiles.every(
          (register) =>
            registers[register] === undefined ||
            one.registers[register] === undefined ||
            registers[register] === one.registers[register],
        ),
    );
    if (agrees) continue;
    throw new KitError(
      "kit/altered",
      `${path} holds values of another image than manifest.json: ${name}`,
      "caisson up or caisson instance for this image, then publish it again",
    );
  }
}

/** The files that a kit's own list names. Throws KitError `kit/malformed`. */
function listedFiles(directory: string): Record<string, string> {
  const path = join(directory, mark);
  try {
    const { version, files } = JSON.parse(readFileSync(path, "utf8")) as {
      version: unknown;
      files: Record<string, unknown>;
    };
    if (version !== "caisson/kit/v1") throw new Error(`its version is ${JSON.stringify(version)}`);
    for (const [name, hash] of Object.entries(files)) {
      const known = (Object.values(names) as string[]).includes(name);
      if (!known || typeof hash !== "string" || !/^[0-9a-f]{64}$/.test(hash))
        throw new Error(`it names ${name}`);
    }
    for (const name of [names.manifest, names.policy, names.references]) {
      if (!Object.hasOwn(files, name)) throw new Error(`it names no ${name}`);
    }
    return files as Record<string, string>;
  } catch (error) {
    throw new KitError(
      "kit/malformed",
      `${path} is not the list of a kit: ${messageOf(error)}`,
      "name a directory that caisson publish wrote",
    );
  }
}

/** Reads a kit, each file compared with the kit's list. Throws KitError `kit/malformed`, `kit/altered`. */
export function readKit(directory: string): Kit {
  const files = listedFiles(directory);
  for (const name of readdirSync(directory)) {
    if (name !== mark && !Object.hasOwn(files, name)) {
      throw new KitError(
        "kit/altered",
        `the kit's list does not name ${join(directory, name)}`,
        "get the kit again",
      );
    }
  }
  for (const [name, hash] of Object.entries(files)) {
    const path = join(directory, name);
    if (!existsSync(path) || sha256(path) !== hash) {
      throw new KitError("kit/altered", `${path} is not the file that the kit names`, "get the kit again");
    }
  }
  checkReferences(
    join(directory, names.references),
    parseManifest(readFileSync(join(directory, names.manifest), "utf8"), join(directory, names.manifest)),
  );
  return {
    directory,
    policy: join(directory, names.policy),
    references: join(directory, names.references),
    ...(Object.hasOwn(files, names.collateral) && { collateral: join(directory, names.collateral) }),
    manifest: files[basename(names.manifest)]!,
  };
}
