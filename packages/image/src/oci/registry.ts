// SPDX-License-Identifier: Apache-2.0
/**
 * Images from a registry: OCI distribution-spec 1.1, pull only. What it serves is checked by who reads it; manifests and
 * blobs are kept in the content-addressed cache, so an image that was pulled once needs no registry.
 *
 * Nobody is told who we are before it asks: credentials are looked up when a registry answers 401, and go to it, or to
 * the token server that it names, over TLS (or plain HTTP on this machine itself) and nowhere else.
 */
import { hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { firstBytes } from "@caisson/vocabulary/body";
import { makeDirectory } from "@caisson/vocabulary/directory";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { cachePath, diskError, download } from "../inputs/fetch.ts";
import type { Blob } from "./blobs.ts";
import { type Challenge, parseChallenges } from "./challenges.ts";
import { type Credentials, findCredentials } from "./credentials.ts";
import { type Descriptor, documentTypes, maximumDocument } from "./documents.ts";
import type { ImageSource } from "./oci.ts";
import type { RegistryReference } from "./reference.ts";

export interface RegistryOptions {
  /** The cache directory. */
  cache: string;
  /** Where Docker's configuration and CAISSON_REGISTRY_MIRRORS are looked up. */
  environment: NodeJS.ProcessEnv;
}

/** One server that has a repository. */
interface Endpoint {
  /** "host:port", as credentials are filed. */
  registry: string;
  /** "https://host/v2/repository" */
  base: string;
}

const requestLimitMs = 30_000;
/** A token lives so long when nothing else is said (distribution's token specification). */
const defaultTokenSeconds = 60;
const clientName = "caisson";
const accepted = documentTypes.join(", ");

/** Registries speak TLS; only on this machine itself may one speak plain HTTP. */
const isLoopback = (host: string) => /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/.test(host);

const unreachableFix =
  "run this where the registry can be reached, name a mirror (CAISSON_REGISTRY_MIRRORS), or save the image there (docker save) and name the file";

function registryError(message: string, fix?: string): ImageError {
  return new ImageError("oci/registry", message, { kind: "unavailable", ...(fix !== undefined && { fix }) });
}

function endpoint(registry: string, repository: string): Endpoint {
  // Docker Hub's API is at a name of its own.
  const host = registry === "docker.io" ? "registry-1.docker.io" : registry;
  return { registry, base: `${isLoopback(host) ? "http" : "https"}://${host}/v2/${repository}` };
}

/** "docker.io=mirror.example/prefix,…": where to ask first. Throws ImageError `oci/registry`. */
function mirrorsOf(reference: RegistryReference, environment: NodeJS.ProcessEnv): Endpoint[] {
  const found: Endpoint[] = [];
  for (const pair of (environment["CAISSON_REGISTRY_MIRRORS"] ?? "").split(",")) {
    if (pair.trim() === "") continue;
    const match = /^([^=/\s]+)=([^=/\s]+)((?:\/[a-z0-9._-]+)*)\/?$/.exec(pair.trim());
    if (match === null) {
      throw new ImageError(
        "oci/registry",
        `CAISSON_REGISTRY_MIRRORS: '${pair}' is not REGISTRY=HOST[/PREFIX]`,
        {
          kind: "usage",
        },
      );
    }
    const [, registry, host, prefix = ""] = match;
    if (registry === reference.registry)
      found.push(endpoint(host!, `${prefix.slice(1)}/${reference.repository}`.replace(/^\//, "")));
  }
  return found;
}

const text = z.string().nullish();
const tokenSchema = z.object({ token: text, access_token: text, expires_in: z.number().nullish() });

const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

/** A bounded body. */
async function readBody(response: Response, name: string): Promise<Buffer> {
  const { bytes, more } = await firstBytes(response.body, maximumDocument);
  if (more) throw registryError(`${name} is longer than ${maximumDocument} bytes`);
  return Buffer.from(bytes);
}

/** A repository on one server, and the right to pull from it. */
class Repository {
  readonly #endpoint: Endpoint;
  readonly #repository: string;
  readonly #environment: NodeJS.ProcessEnv;
  /** The tag or digest that is asked for to learn what the registry wants to know. */
  readonly #probe: string;
  #isKnown = false;
  #challenges: Challenge[] = [];
  #authorization: string | undefined;
  #expires = Number.POSITIVE_INFINITY;

  constructor(at: Endpoint, probe: string, environment: NodeJS.ProcessEnv) {
    this.#endpoint = at;
    this.#repository = at.base.slice(at.base.indexOf("/v2/") + "/v2/".length);
    this.#environment = environment;
    this.#probe = probe;
  }

  url(kind: "manifests" | "blobs", reference: string): string {
    return `${this.#endpoint.base}/${kind}/${reference}`;
  }

  /** What the request for a blob has to carry now; a token that has run out is replaced. */
  async headers(): Promise<Record<string, string>> {
    if (!this.#isKnown) await this.manifest(this.#probe);
    return this.#current();
  }

  async #current(): Promise<Record<string, string>> {
    if (performance.now() > this.#expires) await this.#authorize();
    return this.#authorization === undefined ? {} : { authorization: this.#authorization };
  }

  /** The bytes of a manifest or index, by tag or digest, and what the server calls them. */
  async manifest(reference: string): Promise<{ bytes: Buffer; mediaType: string; digest: string | null }> {
    const url = this.url("manifests", reference);
    const { registry } = this.#endpoint;
    let response = await this.#get(url);
    if (response.status === 401) {
      this.#challenges = parseChallenges(response.headers.get("www-authenticate") ?? "");
      await response.body?.cancel();
      await this.#authorize();
      response = await this.#get(url);
    }
    if (response.status === 401 || response.status === 403) throw this.#refused(`HTTP ${response.status}`);
    if (response.status === 404) {
      throw new ImageError("oci/tag", `${registry} has no ${this.#repository} with '${reference}'`, {
        fix: "correct the name or tag",
      });
    }
    if (response.status === 429) {
      throw registryError(
        `${registry} answers no more requests for now (HTTP 429)`,
        "docker login, a mirror (CAISSON_REGISTRY_MIRRORS), or later",
      );
    }
    if (!response.ok) throw registryError(`${url} answered HTTP ${response.status}`);
    this.#isKnown = true;
    const mediaType = (response.headers.get("content-type") ?? "").split(";")[0]!.trim();
    return {
      bytes: await readBody(response, url),
      mediaType,
      digest: response.headers.get("docker-content-digest"),
    };
  }

  async #get(url: string): Promise<Response> {
    const headers = { accept: accepted, ...(await this.#current()) };
    return fetch(url, { headers, signal: AbortSignal.timeout(requestLimitMs) }).catch((error: Error) => {
      const reason = (error.cause as Error | undefined)?.message || error.message;
      throw registryError(`${this.#endpoint.registry}: ${reason}`, unreachableFix);
    });
  }

  #refused(why: string): ImageError {
    const { registry } = this.#endpoint;
    return new ImageError("oci/credentials", `${registry} does not let us pull ${this.#repository}: ${why}`, {
      kind: "unavailable",
      fix: `docker login ${registry}, or see that the name is right`,
    });
  }

  /** Answers the registry's challenge: a token where it takes one (RFC 6750), else a password (RFC 7617). */
  async #authorize(): Promise<void> {
    const { registry } = this.#endpoint;
    const bearer = this.#challenges.find(({ scheme }) => scheme === "bearer");
    const credentials = await findCredentials(registry, this.#environment);
    if (bearer !== undefined) return this.#fetchToken(bearer, credentials);
    if (!this.#challenges.some(({ scheme }) => scheme === "basic")) {
      const asked = this.#challenges.map(({ scheme }) => scheme).join(", ") || "none that can be read";
      throw this.#refused(`of the ways it asks for credentials (${asked}) none is supported`);
    }
    if (credentials === undefined) throw this.#refused("it asks for a password, and there is none for it");
    if (!("user" in credentials)) throw this.#refused("it asks for a password, and only a token is stored");
    this.#authorization = basic(credentials.user, credentials.password);
  }

  async #fetchToken({ parameters }: Challenge, credentials: Credentials | undefined): Promise<void> {
    const { registry } = this.#endpoint;
    const realm = URL.parse(parameters.get("realm") ?? "");
    // A registry elsewhere does not send us to this machine's own services.
    const isSecure =
      realm?.protocol === "https:" ||
      (realm?.protocol === "http:" && isLoopback(realm.host) && isLoopback(registry));
    if (realm === null || !isSecure) throw this.#refused("it names no token server that can be asked safely");
    const service = parameters.get("service");
    const scope = `repository:${this.#repository}:pull`;
    const signal = AbortSignal.timeout(requestLimitMs);
    let request: Promise<Response>;
    if (credentials !== undefined && "identityToken" in credentials) {
      const body = new URLSearchParams({
        grant_type: "refresh_token",
        refresh_token: credentials.identityToken,
        client_id: clientName,
        scope,
        ...(service !== undefined && { service }),
      });
      // A redirect would take the token with it.
      request = fetch(realm, { method: "POST", body, signal, redirect: "error" });
    } else {
      if (service !== undefined) realm.searchParams.set("service", service);
      realm.searchParams.set("scope", scope);
      const headers = credentials && { authorization: basic(credentials.user, credentials.password) };
      request = fetch(realm, { ...(headers && { headers }), signal });
    }
    const response = await request.catch((error: Error) => {
      throw registryError(
        `${realm.host}: ${(error.cause as Error | undefined)?.message || error.message}`,
        unreachableFix,
      );
    });
    if (response.status === 401 || response.status === 403) {
      throw this.#refused(
        `${realm.host} ${credentials === undefined ? "wants credentials" : "refused them"}`,
      );
    }
    const answer = response.ok ? await readBody(response, realm.host) : Buffer.from("null");
    const { data } = tokenSchema.safeParse(parseJson(answer));
    const token = data?.token || data?.access_token;
    if (!token || !/^[\x21-\x7e]+$/.test(token))
      throw registryError(`${realm.host} gave no token for ${registry}`);
    this.#authorization = `Bearer ${token}`;
    // Renewed early, because clocks and answers take time.
    this.#expires = performance.now() + (data?.expires_in || defaultTokenSeconds) * 900;
  }
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

const digestOf = (bytes: Uint8Array): string => `sha256:${hash("sha256", bytes)}`;

/** A document of the cache that is what its digest names. */
async function cachedDocument(cache: string, digest: string): Promise<Buffer | undefined> {
  const bytes = await readFile(cachePath(cache, digest.slice("sha256:".length))).catch(() => undefined);
  return bytes !== undefined && digestOf(bytes) === digest ? bytes : undefined;
}

async function keepDocument(cache: string, bytes: Buffer): Promise<void> {
  const path = cachePath(cache, hash("sha256", bytes));
  try {
    makeDirectory(dirname(path));
    const part = `${path}.${process.pid}.document`;
    await writeFile(part, bytes);
    await rename(part, path);
  } catch (error) {
    throw diskError(error, cache) ?? error;
  }
}

/** The servers that have a repository: mirrors first. `probe` is the tag or digest that is wanted of it. */
const repositoriesOf = (
  reference: RegistryReference,
  probe: string,
  environment: NodeJS.ProcessEnv,
): Repository[] =>
  [...mirrorsOf(reference, environment), endpoint(reference.registry, reference.repository)].map(
    (at) => new Repository(at, probe, environment),
  );

/** Asks each server in turn; what the last one, the registry itself, says is what went wrong. */
async function firstOf<T>(
  [first, ...others]: readonly Repository[],
  ask: (repository: Repository) => Promise<T>,
): Promise<T> {
  if (others.length === 0) return ask(first!);
  try {
    return await ask(first!);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return firstOf(others, ask);
  }
}

/**
 * The digest that a tag names now, of an index or a manifest. Errors: ImageError `oci/registry`, `oci/credentials`,
 * `oci/tag`, `oci/digest`.
 */
export async function resolveTag(
  reference: RegistryReference,
  { cache, environment }: RegistryOptions,
): Promise<string> {
  const tag = reference.tag ?? "latest";
  return firstOf(repositoriesOf(reference, tag, environment), async (repository) => {
    const { bytes, digest } = await repository.manifest(tag);
    const found = digestOf(bytes);
    if (digest !== null && digest !== found) {
      throw new ImageError(
        "oci/digest",
        `${reference.registry} serves something else than the digest it states`,
        {
          facts: [
            ["stated", digest.slice(0, 100)],
            ["found", found],
          ],
        },
      );
    }
    await keepDocument(cache, bytes);
    return found;
  });
}

/**
 * An image of a registry, by digest. Errors: ImageError `oci/registry`, `oci/credentials`, `oci/tag`, `oci/digest`;
 * its blobs throw `fetch/…`, too.
 */
export async function openRegistry(
  reference: RegistryReference & { digest: string },
  { cache, environment }: RegistryOptions,
): Promise<ImageSource> {
  const { digest } = reference;
  const repositories = repositoriesOf(reference, digest, environment);
  let mediaType = "";
  let document = await cachedDocument(cache, digest);
  if (document === undefined) {
    document = await firstOf(repositories, async (repository) => {
      const answer = await repository.manifest(digest);
      ({ mediaType } = answer);
      const found = digestOf(answer.bytes);
      if (found === digest) return answer.bytes;
      throw new ImageError("oci/digest", `${reference.registry} serves another manifest than ${digest}`, {
        facts: [["found", found]],
      });
    });
    await keepDocument(cache, document);
  }
  const bytes = document;
  const open = async (descriptor: Descriptor): Promise<Blob> => {
    if (descriptor.digest === digest) return { chunks: [bytes] };
    const isDocument = documentTypes.includes(descriptor.mediaType);
    const path = await firstOf(repositories, (repository) =>
      download(
        {
          url: repository.url(isDocument ? "manifests" : "blobs", descriptor.digest),
          size: descriptor.size,
          sha256: descriptor.digest.slice("sha256:".length),
          // A registry may say that a manifest is not there when its type is not asked for.
          headers: async () => ({ ...(isDocument && { accept: accepted }), ...(await repository.headers()) }),
          goneFix: "push the image again, or name another",
        },
        cache,
      ),
    );
    return { chunks: createReadStream(path, { highWaterMark: 1 << 20 }), place: { path, offset: 0 } };
  };
  return { descriptor: { mediaType, digest, size: bytes.length }, open };
}
