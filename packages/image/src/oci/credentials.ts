// SPDX-License-Identifier: Apache-2.0
/**
 * Credentials as `docker login` and `podman login` leave them: `config.json` in DOCKER_CONFIG or ~/.docker, or the file
 * REGISTRY_AUTH_FILE names. For a registry, its own helper comes first (`credHelpers`), then the common one
 * (`credsStore`), then what the file holds itself (`auths`).
 */

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { messageOf } from "@caisson/vocabulary/failure";
import * as z from "zod";
import { ImageError } from "../errors.ts";

/** A password, or a token that is exchanged for others (OAuth2's refresh token). */
export type Credentials = { user: string; password: string } | { identityToken: string };

const entry = z.object({ auth: z.string().nullish(), identitytoken: z.string().nullish() });
const fileSchema = z.object({
  auths: z.record(z.string(), entry).nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
});
const helperSchema = z.object({ Username: z.string(), Secret: z.string() });

const maximumAnswer = 1 << 16;
const helperLimitMs = 30_000;

/** Docker Hub's are filed under the name that it had first. */
const keysOf = (registry: string): string[] =>
  registry === "docker.io"
    ? ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"]
    : [registry, `https://${registry}`, `https://${registry}/`, `https://${registry}/v2/`];

function unusable(message: string, cause?: unknown): ImageError {
  return new ImageError("oci/credentials", message, {
    fix: "docker login REGISTRY (or podman login), or correct the file",
    cause,
  });
}

/** Asks `docker-credential-NAME get`; undefined when it knows nothing of `key`. */
function askHelper(helper: string, key: string): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) throw unusable(`'${helper}' is not the name of a credential helper`);
  const program = `docker-credential-${helper}`;
  return new Promise((resolve, reject) => {
    const child = spawn(program, ["get"], { stdio: ["pipe", "pipe", "ignore"], timeout: helperLimitMs });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.length > maximumAnswer) child.kill();
    });
    child.on("error", (error) => reject(unusable(`${program} cannot be run: ${error.message}`, error)));
    child.on("close", (status, signal) => {
      if (signal !== null)
        return reject(unusable(`${program} was stopped: it took too long or said too much`));
      // A helper that has nothing ends with 1; so does one that fails, and only its text tells them apart.
      if (status !== 0 && /not found/i.test(text)) return resolve(undefined);
      if (status !== 0) return reject(unusable(`${program} ended with ${status} for ${key}`));
      try {
        const { Username: user, Secret: secret } = helperSchema.parse(JSON.parse(text));
        resolve(user === "<token>" ? { identityToken: secret } : { user, password: secret });
      } catch (error) {
        reject(unusable(`${program} gave no credentials that can be read`, error));
      }
    });
    child.stdin.on("error", () => {});
    child.stdin.end(key);
  });
}

function fromEntry({ auth, identitytoken }: z.infer<typeof entry>, where: string): Credentials | undefined {
  if (identitytoken) return { identityToken: identitytoken };
  if (!auth) return undefined;
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 1) throw unusable(`${where} is not base64 of user:password`);
  return { user: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, "") };
}

const fileOf = (environment: NodeJS.ProcessEnv): string =>
  environment["REGISTRY_AUTH_FILE"] ||
  join(environment["DOCKER_CONFIG"] || join(environment["HOME"] || homedir(), ".docker"), "config.json");

/**
 * What there is for a registry ("host" or "host:port"); undefined when there is nothing, and nobody is asked then.
 * Throws ImageError `oci/credentials`.
 */
export async function findCredentials(
  registry: string,
  environment: NodeJS.ProcessEnv,
): Promise<Credentials | undefined> {
  const path = fileOf(environment);
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw unusable(`${path} cannot be read: ${error.message}`, error);
  });
  if (text === undefined) return undefined;
  let file: z.infer<typeof fileSchema>;
  try {
    file = fileSchema.parse(JSON.parse(text));
  } catch (error) {
    throw unusable(`${path} is not a Docker configuration: ${messageOf(error)}`, error);
  }
  const keys = keysOf(registry);
  const helped = keys.find((key) => Object.hasOwn(file.credHelpers ?? {}, key));
  if (helped !== undefined) return askHelper(file.credHelpers![helped]!, helped);
  const stored = keys.find((key) => Object.hasOwn(file.auths ?? {}, key));
  if (file.credsStore) {
    const found = await askHelper(file.credsStore, stored ?? keys[0]!);
    if (found !== undefined) return found;
  }
  return stored === undefined ? undefined : fromEntry(file.auths![stored]!, `${path}: auths.${stored}.auth`);
}
