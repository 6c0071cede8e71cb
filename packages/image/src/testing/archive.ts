// SPDX-License-Identifier: Apache-2.0
/** What tests make: Debian packages, and archives that are signed by a key of their own. Not part of the product. */
import { createHash } from "node:crypto";
import { xz } from "@napi-rs/lzma";
import { createCleartextMessage, generateKey, type PrivateKey, sign } from "openpgp";
import type { Descriptor } from "../oci/documents.ts";

const arHeader = (name: string, size: number) =>
  Buffer.from(`${name.padEnd(16)}0           0     0     100644  ${String(size).padEnd(10)}\`\n`, "latin1");

/** A package (deb(5)) around a data archive, which `names.data` names with its compression. */
export function makeDeb(data: Uint8Array, names: { data: string; version?: string }): Uint8Array {
  const members: [string, Uint8Array][] = [
    ["debian-binary", Buffer.from(names.version ?? "2.0\n")],
    ["control.tar", new Uint8Array(1024)],
    [names.data, data],
  ];
  const parts = members.flatMap(([name, bytes]) => [
    arHeader(name, bytes.length),
    bytes,
    Buffer.alloc(bytes.length % 2, "\n"),
  ]);
  return Buffer.concat([Buffer.from("!<arch>\n"), ...parts]);
}

export const sha256 = (bytes: Uint8Array | string): string =>
  createHash("sha256").update(bytes).digest("hex");

export interface TestKey {
  /** Upper-case hex. */
  fingerprint: string;
  private: PrivateKey;
  /** Binary, as in a keyring. */
  public: Uint8Array;
}

/** An Ed25519 key that was made on `date`, and expires on `end` if there is one. */
export async function makeKey(name: string, date: Date, end?: Date): Promise<TestKey> {
  const { privateKey, publicKey } = await generateKey({
    type: "ecc",
    curve: "ed25519Legacy", // the form that GnuPG 2.2 knows, too
    userIDs: [{ name }],
    date,
    keyExpirationTime: end === undefined ? 0 : (end.getTime() - date.getTime()) / 1000,
    format: "object",
  });
  return {
    fingerprint: publicKey.getFingerprint().toUpperCase(),
    private: privateKey,
    public: publicKey.write(),
  };
}

/** A clearsigned text. */
export async function clearsign(text: string, keys: readonly TestKey[], date: Date): Promise<string> {
  const message = await createCleartextMessage({ text });
  return sign({ message, signingKeys: keys.map((key) => key.private), date });
}

export interface TestPackage {
  name: string;
  version: string;
  /** The package itself, made with `makeDeb`; its bytes do not matter where only indexes are looked at. */
  deb?: Uint8Array;
  /** More fields of the index: `{ Depends: "libc6 (>= 2)" }`. */
  fields?: Record<string, string>;
}

const debOf = ({ name, version, deb }: TestPackage) => deb ?? Buffer.from(`${name} ${version}`);

const pathOf = ({ name, version }: TestPackage) =>
  `pool/main/${name[0]}/${name}/${name}_${version.replace(/^\d+:/, "")}_amd64.deb`;

/** The text of a `Packages` index. */
export function makeIndex(packages: readonly TestPackage[]): string {
  return packages
    .map((one) => {
      const fields = {
        Package: one.name,
        Version: one.version,
        Architecture: "amd64",
        ...one.fields,
        Filename: pathOf(one),
        Size: String(debOf(one).length),
        SHA256: sha256(debOf(one)),
      };
      return `${Object.entries(fields)
        .map(([name, value]) => `${name}: ${value}`)
        .join("\n")}\n`;
    })
    .join("\n");
}

export interface TestSuite {
  name: string;
  packages: readonly TestPackage[];
  date: Date;
  /** Left out for a stable suite. */
  validUntil?: Date;
  /** Changes the signed text before it is signed. */
  edit?: (text: string) => string;
}

/** The text of a Release file over a compressed index. */
export function makeRelease(suite: TestSuite, index: Uint8Array): string {
  const plain = Buffer.from(makeIndex(suite.packages));
  const text = [
    "Origin: Debian",
    `Suite: ${suite.validUntil === undefined ? "stable" : `x-${suite.name}`}`,
    `Codename: ${suite.name}`,
    `Date: ${suite.date.toUTCString().replace("GMT", "UTC")}`,
    ...(suite.validUntil === undefined
      ? []
      : [`Valid-Until: ${suite.validUntil.toUTCString().replace("GMT", "UTC")}`]),
    "Acquire-By-Hash: yes",
    "Architectures: amd64",
    "Components: main",
    "SHA256:",
    ` ${sha256(plain)} ${plain.length} main/binary-amd64/Packages`,
    ` ${sha256(index)} ${index.length} main/binary-amd64/Packages.xz`,
    "",
  ].join("\n");
  return suite.edit?.(text) ?? text;
}

/** The files of one suite by their path below the mirror: InRelease, index, packages. */
export async function makeSuite(
  suite: TestSuite,
  keys: readonly TestKey[],
  signedOn: Date,
): Promise<Map<string, Uint8Array>> {
  const index = await xz.compress(makeIndex(suite.packages));
  const inRelease = await clearsign(makeRelease(suite, index), keys, signedOn);
  return new Map<string, Uint8Array>([
    [`dists/${suite.name}/InRelease`, Buffer.from(inRelease)],
    [`dists/${suite.name}/main/binary-amd64/by-hash/SHA256/${sha256(index)}`, index],
    ...suite.packages.map((one): [string, Uint8Array] => [pathOf(one), debOf(one)]),
  ]);
}

export interface TestImage {
  /** Of the manifest. */
  descriptor: Descriptor;
  /** Of manifest, configuration and layers. */
  descriptors: Descriptor[];
  blobs: Map<string, Uint8Array>;
}

/** An OCI image of these layer archives; what is wrong with it is said in `changes`. */
export function makeImage(
  archives: readonly Uint8Array[],
  changes: {
    architecture?: string;
    config?: object;
    layerType?: string;
    compress?: (bytes: Uint8Array) => Uint8Array;
    diffIds?: string[];
    /** Whether the manifest states its own type. */
    ownType?: boolean;
    /** In place of the manifest. */
    document?: Uint8Array;
    mediaType?: string;
  } = {},
): TestImage {
  const blobs = new Map<string, Uint8Array>();
  const add = (mediaType: string, bytes: Uint8Array): Descriptor => {
    const digest = `sha256:${sha256(bytes)}`;
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const layerType = changes.layerType ?? "application/vnd.oci.image.layer.v1.tar";
  const layers = archives.map((archive) => add(layerType, changes.compress?.(archive) ?? archive));
  const config = add(
    "application/vnd.oci.image.config.v1+json",
    Buffer.from(
      JSON.stringify({
        os: "linux",
        architecture: changes.architecture ?? "amd64",
        config: changes.config ?? {},
        rootfs: {
          type: "layers",
          diff_ids: changes.diffIds ?? archives.map((archive) => `sha256:${sha256(archive)}`),
        },
      }),
    ),
  );
  const own = changes.ownType === true && { mediaType: "application/vnd.oci.image.manifest.v1+json" };
  const document =
    changes.document ?? Buffer.from(JSON.stringify({ schemaVersion: 2, ...own, config, layers }));
  const descriptor = add(changes.mediaType ?? "application/vnd.oci.image.manifest.v1+json", document);
  return { descriptor, descriptors: [descriptor, config, ...layers], blobs };
}

/** A tar header with one field overwritten and the checksum made right again. */
export function patched(header: Uint8Array, at: number, bytes: string): Uint8Array {
  const copy = Buffer.from(header);
  copy.write(bytes, at, "latin1");
  copy.write("        ", 148, "latin1");
  const sum = copy.reduce((total, byte) => total + byte, 0);
  copy.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return copy;
}
