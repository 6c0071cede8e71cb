/**
 * Images from a registry, by digest: OCI distribution-spec 1.1, pull only, anonymous (a bearer token where the registry
 * asks for one). What it serves is checked by who reads it; blobs are kept in the content-addressed cache.
 */

import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { firstBytes } from "@caisson/vocabulary/body";
import * as z from "zod";
import { ImageError } from "../errors.ts";
import { download } from "../inputs/fetch.ts";
import { type Descriptor, documentTypes, importImage, maximumDocument, type OciImage } from "./oci.ts";

export interface RegistryReference {
  /** "host" or "host:port". */
  registry: string;
  repository: string;
  /** "sha256:…" */
  digest: string;
}

/** Registries speak TLS; only on this machine itself may one speak plain HTTP. */
const isLoopback = (host: string) => /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/.test(host);

const tokenSchema = z.object({ token: z.string().optional(), access_token: z.string().optional() });

function registryError(message: string): ImageError {
  return new ImageError("oci/registry", message, { kind: "internal" });
}

/** The Authorization header for pulling, by the challenge of a 401 answer (RFC 6750, distribution's token scheme). */
async function authorize(challenge: string, repository: string, registry: string): Promise<string> {
  const parameter = (name: string) => new RegExp(`[ ,]${name}="([^"]*)"`).exec(challenge)?.[1];
  const realm = URL.parse(parameter("realm") ?? "");
  const secure = realm?.protocol === "https:" || (realm?.protocol === "http:" && isLoopback(realm.host));
  if (!/^Bearer /i.test(challenge) || realm === null || !secure) {
    throw registryError(
      `${registry} asks for credentials in a way that is not supported; only anonymous pulls are`,
    );
  }
  const service = parameter("service");
  if (service !== undefined) realm.searchParams.set("service", service);
  realm.searchParams.set("scope", `repository:${repository}:pull`);
  const response = await fetch(realm, { signal: AbortSignal.timeout(30_000) });
  const body = tokenSchema.safeParse(response.ok ? await response.json().catch(() => undefined) : undefined);
  const token = body.data?.token ?? body.data?.access_token;
  if (token === undefined || !/^[\x21-\x7e]+$/.test(token))
    throw registryError(`${realm.host} gave no token for ${registry}`);
  return `Bearer ${token}`;
}

/** A bounded body. */
async function readBody(response: Response, name: string): Promise<Buffer> {
  const { bytes, more } = await firstBytes(response.body, maximumDocument);
  if (more) throw registryError(`${name} is longer than ${maximumDocument} bytes`);
  return Buffer.from(bytes);
}

/**
 * Pulls and imports an image. Blobs that are in the cache are not fetched again; the manifest is asked for each time.
 * Errors: ImageError `oci/…`, `fetch/…`, `archive/…`.
 */
export async function pullImage(reference: RegistryReference, cache: string): Promise<OciImage> {
  const { registry, repository, digest } = reference;
  const base = `${isLoopback(registry) ? "http" : "https"}://${registry}/v2/${repository}`;
  const url = `${base}/manifests/${digest}`;
  let headers: Record<string, string> = { accept: documentTypes.join(", ") };
  const ask = () =>
    fetch(url, { headers, signal: AbortSignal.timeout(30_000) }).catch((error: Error) => {
      throw registryError(`${registry}: ${(error.cause as Error | undefined)?.message || error.message}`);
    });
  let response = await ask();
  if (response.status === 401) {
    const challenge = response.headers.get("www-authenticate") ?? "";
    headers = { ...headers, authorization: await authorize(challenge, repository, registry) };
    response = await ask();
  }
  if (!response.ok) throw registryError(`${url} answered HTTP ${response.status}`);
  const document = await readBody(response, url);
  const mediaType = (response.headers.get("content-type") ?? "").split(";")[0]!.trim();

  const open = async (descriptor: Descriptor): Promise<AsyncIterable<Uint8Array> | Iterable<Uint8Array>> => {
    if (descriptor.digest === digest) return [document];
    const isDocument = documentTypes.includes(descriptor.mediaType);
    const path = await download(
      {
        url: `${base}/${isDocument ? "manifests" : "blobs"}/${descriptor.digest}`,
        size: descriptor.size,
        sha256: descriptor.digest.slice("sha256:".length),
        headers,
        goneFix: "push the image again, or name another digest in the spec",
      },
      cache,
    );
    return isDocument ? [await readFile(path)] : createReadStream(path, { highWaterMark: 1 << 20 });
  };
  return importImage({ mediaType, digest, size: document.length }, open);
}
