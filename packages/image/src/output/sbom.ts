// SPDX-License-Identifier: Apache-2.0
/**
 * The software bill of materials: CycloneDX 1.6 JSON, with every file of the image under the component it came from.
 * Deterministic: no serial number, and the timestamp is the source date.
 */
import packageJson from "../../package.json" with { type: "json" };
import type { Root } from "../build/rootfs.ts";
import { type FileNode, walk } from "../build/tree.ts";
import type { LockedPackage } from "../inputs/lock.ts";

/** Of Caisson: the version of this package. */
const { version } = packageJson;

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
  npm: readonly { name: string; version: string; integrity?: string }[];
  /** The services of one image: their names, where its files and theirs lie, "sha256:…" of its OCI manifest. */
  services: readonly { names: readonly string[]; place: string; digest: string }[];
}

interface Component {
  type: "application" | "container" | "file" | "firmware" | "library" | "operating-system";
  name: string;
  version?: string;
  purl?: string;
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

const sha256 = (content: string) => [{ alg: "SHA-256" as const, content }];

/** The document's text. */
export function sbom(inputs: SbomInputs): string {
  const files = filesByOrigin(inputs);
  const withFiles = (component: Component, origin: string): Component => {
    const components = files.get(origin) ?? [];
    return components.length === 0 ? component : { ...component, components };
  };
  const components: Component[] = [
    ...inputs.packages.map((locked) => withFiles(debian(locked), `${locked.name} ${locked.version}`)),
    ...inputs.npm.map((entry) => withFiles(npm(entry), entry.name)),
    withFiles({ type: "application", name: "caisson", version }, "caisson"),
    ...inputs.services.flatMap(({ names, digest }) =>
      names.map((name) =>
        withFiles(
          { type: "container", name, hashes: sha256(digest.replace(/^sha256:/, "")) },
          `service ${name}`,
        ),
      ),
    ),
  ];
  const document = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      timestamp: new Date(inputs.sourceDate * 1000).toISOString(),
      tools: { components: [{ type: "application", name: "caisson", version }] },
      component: { type: "operating-system", name: `${inputs.name}-${inputs.flavour}` },
    },
    components,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
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

function debian({ name, version, architecture, suite, groups, sha256: hash }: LockedPackage): Component {
  return {
    type: groups.includes("source") ? "operating-system" : groups.includes("root") ? "library" : "firmware",
    name,
    version,
    purl: `${packageUrl("deb", `debian/${name}`, version)}?arch=${architecture}&distro=${suite}`,
    hashes: sha256(hash),
  };
}

function npm({ name, version, integrity }: SbomInputs["npm"][number]): Component {
  const base64 = integrity?.replace(/^sha512-/, "");
  return {
    type: "library",
    name,
    version,
    purl: packageUrl("npm", name, version),
    ...(base64 !== undefined && {
      hashes: [{ alg: "SHA-512", content: Buffer.from(base64, "base64").toString("hex") }],
    }),
  };
}
