// SPDX-License-Identifier: Apache-2.0
/**
 * How a person names an image: `./DIR`, `./DIR:TAG`, `./FILE.tar`, `./FILE.tar:TAG`, or a registry's name with the
 * short forms of Docker Hub ("nginx" is docker.io/library/nginx:latest).
 */
import { resolve } from "node:path";
import { ImageError } from "../errors.ts";

/** An OCI layout directory, or an archive that a tool saved (OCI or Docker's); which, its content says. */
export interface LocalReference {
  kind: "local";
  /** Absolute. */
  path: string;
  tag?: string;
}

export interface RegistryReference {
  kind: "registry";
  /** "host" or "host:port". */
  registry: string;
  repository: string;
  tag?: string;
  /** "sha256:…"; with it, the tag is only a comment. */
  digest?: string;
}

export type ImageReference = LocalReference | RegistryReference;

const hub = "docker.io";
/** Names under which Docker Hub was and is known. */
const hubNames = new Set([hub, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"]);

const component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const repositoryForm = new RegExp(`^${component}(?:/${component})*$`);
const hostForm = /^(?:\[[0-9a-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?$/;
const tagForm = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** A digest of an image or a layer, as it is written. */
export const digestForm = /^sha256:[0-9a-f]{64}$/;
const maximumName = 255;

function refuse(text: string, reason: string): ImageError {
  return new ImageError("oci/reference", `'${text}' is not the name of an image: ${reason}`, {
    fix: "./DIRECTORY or ./FILE.tar (with :TAG where several images are in it), or registry/name:tag, registry/name@sha256:…",
  });
}

/** A path may not hold a colon, which begins the tag. */
function parseLocal(text: string, directory: string): LocalReference {
  const colon = text.indexOf(":");
  const path = resolve(directory, colon === -1 ? text : text.slice(0, colon));
  if (colon === -1) return { kind: "local", path };
  const tag = text.slice(colon + 1);
  if (tag === "" || /[\s\0]/.test(tag)) throw refuse(text, "what follows the colon is not a tag");
  return { kind: "local", path, tag };
}

/** The first part is a host when it could not be part of a name on Docker Hub. */
function splitHost(name: string): [registry: string, repository: string] {
  const slash = name.indexOf("/");
  const first = slash === -1 ? "" : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const registry = isHost ? first : hub;
  const repository = isHost ? name.slice(slash + 1) : name;
  if (!hubNames.has(registry)) return [registry, repository];
  return [hub, repository.includes("/") ? repository : `library/${repository}`];
}

/**
 * Reads the name of an image; `directory` is what relative paths start from. Throws ImageError `oci/reference`.
 */
export function parseReference(text: string, directory: string): ImageReference {
  if (/^\.{0,2}\//.test(text)) return parseLocal(text, directory);
  const at = text.indexOf("@");
  const digest = at === -1 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !digestForm.test(digest)) {
    throw refuse(text, "a digest is sha256: and 64 lower-case hex digits");
  }
  const rest = at === -1 ? text : text.slice(0, at);
  const colon = rest.indexOf(":", rest.lastIndexOf("/") + 1);
  const tag = colon === -1 ? undefined : rest.slice(colon + 1);
  if (tag !== undefined && !tagForm.test(tag)) {
    throw refuse(text, "a tag has 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'");
  }
  const [registry, repository] = splitHost(colon === -1 ? rest : rest.slice(0, colon));
  if (!hostForm.test(registry)) throw refuse(text, `'${registry}' is not a host`);
  if (!repositoryForm.test(repository) || repository.length > maximumName) {
    throw refuse(
      text,
      "a name is parts of a-z and 0-9, with '.', '_' or '-' between them and '/' between parts",
    );
  }
  const named = tag ?? (digest === undefined ? "latest" : undefined);
  return {
    kind: "registry",
    registry,
    repository,
    ...(named !== undefined && { tag: named }),
    ...(digest !== undefined && { digest }),
  };
}

/** The one text for a reference: what a lock and messages call it. */
export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? "" : `:${reference.tag}`;
  if (reference.kind === "local") return `${reference.path}${tag}`;
  const digest = reference.digest === undefined ? "" : `@${reference.digest}`;
  return `${reference.registry}/${reference.repository}${tag}${digest}`;
}
