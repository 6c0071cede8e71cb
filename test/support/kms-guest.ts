// SPDX-License-Identifier: Apache-2.0
/** `examples/kms` as tests build it, and what operators and verifiers ask a KMS in a guest. */
import { equal } from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { type OperatorRequest, operatorEnvelope } from "@caisson/kms";
import { writeEnvelope } from "@caisson/releases";
import { keysOf } from "@caisson/releases/testing/owners";
import { signedBy, signer } from "@caisson/releases/testing/signers";
import { makeKms } from "../../examples/kms/make.ts";

const repository = new URL("../../", import.meta.url).pathname;
const [ada, bob] = [signer("operator ada"), signer("operator bob")];

/**
 * Makes the directory of an image of `examples/kms` at `directory`: with the operators above, other `files` beside the program,
 * and the first document of its owners' identity. `spec` is appended to what its spec says of the application.
 */
export async function writeKms(
  directory: string,
  files: Readonly<Record<string, string>>,
  identity: Uint8Array | string,
  spec = "",
): Promise<void> {
  const place = `${directory}-files`;
  const all = { "operators.json": JSON.stringify(keysOf(2, ada, bob)), ...files };
  for (const [name, content] of Object.entries(all)) {
    mkdirSync(dirname(join(place, name)), { recursive: true });
    writeFileSync(join(place, name), content);
  }
  mkdirSync(directory);
  for (const file of ["caisson.yaml", "caisson.lock"]) {
    cpSync(join(repository, "examples/kms", file), join(directory, file));
  }
  await makeKms(place, join(directory, "app"));
  writeFileSync(join(directory, "caisson.yaml"), spec, { flag: "a" });
  writeFileSync(join(directory, "identity.json"), identity);
}

/** What the spec says besides for a KMS on a volume (docs/key-release.md). */
export const onVolume = `  environment: { KMS_DATA: /data/kms }
  volumes: { data: /data }
volumes:
  data: { size: 256MiB }
`;

/** Where a guest reaches what listens on the host's loopback, another guest's port among it. */
export const fromGuest = (url: string): string => url.replace("127.0.0.1", "10.0.2.2").replace(/\/$/, "");

/** What an application's policy file says besides its policy. */
export const policyFile = (app: string, policy: object) => ({
  version: "caisson/kms-policy/v1",
  app,
  keyVersion: 1,
  policy,
});

/** Two operators ask for the policy of an application that has none. */
export async function setPolicy(url: string, identity: string, file: { app: string }): Promise<void> {
  const asked: OperatorRequest = {
    version: "caisson/kms-request/v1",
    action: "policy/set",
    kms: identity,
    app: file.app,
    replaces: 0,
    expires: Date.now() + 600_000,
    policy: JSON.stringify(file),
  };
  const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(asked), ada, bob)));
  const answer = await fetch(new URL("/v1/admin", url), { method: "POST", body });
  equal(answer.status, 200, await answer.text());
}

interface Verified {
  verdict: string;
  codes: string[];
  kms: { identityKey: string; first: boolean; upstream?: string };
}

/** `caisson kms verify`. */
export async function verifyKms(
  url: string,
  ...more: string[]
): Promise<{ status: number; answer: Verified }> {
  const args = ["kms", "verify", url, "--json", ...more];
  const child = spawn(join(repository, "caisson"), args, { stdio: ["ignore", "pipe", "inherit"] });
  const status = new Promise<number>((resolve) => void child.once("exit", (code) => resolve(code ?? -1)));
  return { answer: JSON.parse(await text(child.stdout)) as Verified, status: await status };
}
