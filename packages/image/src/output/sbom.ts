// SPDX-License-Identifier: Apache-2.0
/**
 * The software bill of materials: CycloneDX 1.6 JSON, with every file of the image under the component it came from.
 * Deterministic: the serial number follows from the content, and the timestamp is the source date.
 */
import { hash } from "node:crypto";
import packageJson from "../../package.json" with { type: "json" };
import type { Root } from "../build/rootfs.ts";
import { type FileNode, walk } from "../build/tree.ts";
import type { LockedPackage } from "../inputs/lock.ts";
import { type NpmPackage, npmPackagesIn } from "../oci/npm-packages.ts";

/** Of Caisson: the version of this package. */
export const { version } = packageJson;

export interface SbomInputs {
  name: string;
  flavour: string;
  /** Seconds since 1970. */
  sourceDate: number;
  root: Root;
  /** SHA-256 of each file's content. */
  digests: ReadonlyMap<FileNode, string>;
  /** Debian packages that the image contains files of, the kernel's source and the firmware among them. */
  packages: readonly LockedPackage[];
  /** npm packages: Node itself and what PID 1's bundle contains. */
  npm: readonly Npm[];
  /** What compiled the kernel and bundled PID 1; nothing of it is in the image. */
  toolchain: { packages: readonly LockedPackage[]; npm: readonly Npm[] };
  /** Names of licences by "name version" of a package. */
  licences: ReadonlyMap<string, readonly string[]>;
  /** `sourcesHash` of the Caisson that made the image. */
  sources: string;
  /** The services of one image: their names, where its files and theirs lie, "sha256:…" of its OCI manifest. */
  services: readonly { names: readonly string[]; place: string; digest: string }[];
}

type Npm = { name: string; version: string; integrity?: string };

interface Component {
  "bom-ref"?: string;
  type: "application" | "container" | "file" | "firmware" | "library" | "operating-system";
  name: string;
  version?: string;
  purl?: string;
  licenses?: { license: { name: string } }[];
  hashes?: { alg: "SHA-256" | "SHA-512"; content: string }[];
  properties?: { name: string; value: string }[];
  components?: Component[];
}

/** Part of a package URL in its canonical form, which consumers compare as text: a colon stays as it is. */
const encoded = (text: string): string =>
  encodeURIComponent(text)
    .replaceAll(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll("%3A", ":");

/** Namespace and name of a package, and its version. */
const packageUrl = (type: string, name: string, version: string): string =>
  `pkg:${type}/${name.split("/").map(encoded).join("/")}@${encoded(version)}`;

/** A component's licences, for one that has some. */
const licenses = (names: readonly string[] = []) =>
  names.length === 0 ? {} : { licenses: names.map((name) => ({ license: { name } })) };

const sha256 = (content: string) => [{ alg: "SHA-256" as const, content }];

/** The document's text. */
export function sbom(inputs: SbomInputs): string {
  const files = filesByOrigin(inputs);
  const licencesOf = ({ name, version }: Npm) => inputs.licences.get(`${name} ${version}`);
  const withFiles = (component: Component, origin: string, inside: Component[] = []): Component => {
    const components = [...inside, ...(files.get(origin) ?? [])];
    return components.length === 0 ? component : { ...component, components };
  };
  const debianOf = (locked: LockedPackage) => debian(locked, licencesOf(locked));
  const npmOf = (entry: Npm) => npm(entry, licencesOf(entry));
  const components: Component[] = [
    ...inputs.packages.map((locked) => withFiles(debianOf(locked), `${locked.name} ${locked.version}`)),
    ...inputs.npm.map((entry) => withFiles(npmOf(entry), entry.name)),
    withFiles(own(inputs.sources), "caisson"),
    ...inputs.services.flatMap(({ names, digest }) =>
      names.map((name) =>
        withFiles(
          {
            "bom-ref": `service:${name}`,
            type: "container",
            name,
            hashes: sha256(digest.replace(/^sha256:/, "")),
          },
          `service ${name}`,
          applicationPackages(inputs, name),
        ),
      ),
    ),
  ];
  const image = { "bom-ref": "image", type: "operating-system", name: `${inputs.name}-${inputs.flavour}` };
  const document = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      timestamp: new Date(inputs.sourceDate * 1000).toISOString(),
      tools: { components: [own(inputs.sources)] },
      component: image,
    },
    components,
    dependencies: [{ ref: "image", dependsOn: components.map((component) => component["bom-ref"]!) }],
    formulation: [
      {
        "bom-ref": "toolchain",
        components: [...inputs.toolchain.packages.map(debianOf), ...inputs.toolchain.npm.map(npmOf)].map(
          (component) => ({ ...component, "bom-ref": `toolchain:${component.purl}` }),
        ),
      },
    ],
  };
  const { $schema, bomFormat, specVersion, ...rest } = document;
  const serialNumber = `urn:uuid:${uuidOf(JSON.stringify(document))}`;
  return `${JSON.stringify({ $schema, bomFormat, specVersion, serialNumber, ...rest }, null, 2)}\n`;
}

/** A UUID that follows from a text (RFC 9562, version 8: the bits are ours). */
function uuidOf(text: string): string {
  const digits = hash("sha256", text).slice(0, 32).split("");
  digits[12] = "8";
  digits[16] = ((Number.parseInt(digits[16]!, 16) & 3) | 8).toString(16);
  return digits.join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Caisson itself: PID 1 and the builder, by the hash over the sources of both. */
const own = (sources: string): Component => ({
  "bom-ref": `caisson:${sources}`,
  type: "application",
  name: "caisson",
  version,
  ...licenses(["Apache-2.0"]),
  properties: [{ name: "caisson:sources:sha256", value: sources }],
});

/** npm packages below the root of a service; those of one image stand once, under the first service's name. */
function applicationPackages({ root, services }: SbomInputs, name: string): Component[] {
  const service = services.find(({ names }) => names[0] === name);
  if (service === undefined) return [];
  return npmPackagesIn(root.tree, service.place).map(({ path, licence, ...entry }: NpmPackage) => ({
    ...npm(entry, licence === undefined ? [] : [licence]),
    "bom-ref": `service:${name}:${path}`,
    properties: [{ name: "caisson:path", value: path }],
  }));
}

/** Every file of the root by where it came from; services of one image have its files once, under the first's name. */
function filesByOrigin({ root, digests, services }: SbomInputs): Map<string, Component[]> {
  const names = services.flatMap((one) => one.names);
  const only = services.length === 1 && services[0]!.place === "/app" ? names[0] : undefined;
  const serviceOf = (path: string) => only ?? names.find((name) => path.startsWith(`/app/${name}/`));
  const byOrigin = new Map<string, Component[]>();
  for (const [path, node] of walk(root.tree)) {
    if (node.kind !== "file") continue;
    const origin = root.origins.get(path) ?? `service ${serviceOf(path)}`;
    if (!byOrigin.has(origin)) byOrigin.set(origin, []);
    byOrigin.get(origin)!.push({ type: "file", name: path, hashes: sha256(digests.get(node)!) });
  }
  return byOrigin;
}

function debian(
  { name, version, architecture, suite, groups, sha256: hash }: LockedPackage,
  licences: readonly string[] | undefined,
): Component {
  const purl = `${packageUrl("deb", `debian/${name}`, version)}?arch=${architecture}&distro=${suite}`;
  return {
    "bom-ref": purl,
    type: groups.includes("source") ? "operating-system" : groups.includes("root") ? "library" : "firmware",
    name,
    version,
    ...licenses(licences),
    purl,
    hashes: sha256(hash),
  };
}

function npm({ name, version, integrity }: Npm, licences: readonly string[] | undefined): Component {
  const purl = packageUrl("npm", name, version);
  const base64 = integrity?.replace(/^sha512-/, "");
  return {
    "bom-ref": purl,
    type: "library",
    name,
    version,
    ...licenses(licences),
    purl,
    ...(base64 !== undefined && {
      hashes: [{ alg: "SHA-512", content: Buffer.from(base64, "base64").toString("hex") }],
    }),
  };
}
