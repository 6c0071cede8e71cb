// SPDX-License-Identifier: Apache-2.0
/** `examples/kms` as tests build it, and what operators and verifiers ask a KMS in a guest. */
import { equal, ok } from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import type { Built } from "@caisson/image";
import { type OperatorRequest, operatorEnvelope } from "@caisson/kms";
import { type Session, type SessionHooks, type SessionOptions, startSession } from "@caisson/machine/session";
import type { Instance } from "@caisson/protocol/instance";
import { writeEnvelope } from "@caisson/releases";
import { keysOf } from "@caisson/releases/testing/owners";
import { signedBy, signer } from "@caisson/releases/testing/signers";
import { makeKms } from "../../examples/kms/make.ts";
import { references, shape } from "./image.ts";
import { listens } from "./volume-host.ts";

const repository = new URL("../../", import.meta.url).pathname;
const [ada, bob] = [signer("operator ada"), signer("operator bob")];

/**
 * Makes the directory of an image of `examples/kms` at `directory`: with the operators above, other `files` beside the
 * program, and the first document of its owners' identity. `spec` is appended to what its spec says of the application.
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

/**
 * Which guests are a KMS of the owners whose identity is `id`, on the platform with this simulated root; `more` counts
 * besides.
 */
export const kmsRules = (id: string, simulatedRoot: string, more: object = {}) => ({
  version: "caisson/policy/v1",
  platforms: ["emulated"],
  simulatedRoot,
  tcb: { minimumEvaluationNumber: "any" },
  platformIdentities: "any",
  registers: { rtmr0: "any", hostAcpi: "any" },
  app: { identity: { id }, instanceId: "any" },
  secureTime: { origins: ["instance"] },
  ...more,
});

/** The key provider of a machine: `kms`, or none, in place of the host's. */
export const under = (kms: Instance["kms"]): SessionHooks => ({
  instance: ({ kms: _, ...instance }) => ({ ...instance, ...(kms && { kms }) }),
});

/** Starts a machine of an image whose key provider is `kms`, or none. */
export async function startUnder(
  kms: Instance["kms"],
  { directory, manifest }: Built,
  options: Required<Pick<SessionOptions, "state">> & Pick<SessionOptions, "owners" | "port" | "limitMs">,
): Promise<Session> {
  const values = await references(directory);
  const image = { image: directory, manifest, shape, references: values, limitMs: 400_000 };
  return startSession({ ...image, ...options, hooks: under(kms) });
}

/** Waits until the application of a machine answers, which may be long after its machine is ready; its address. */
export async function answering({ vm, url, state }: Session): Promise<string> {
  const event = await vm.event(({ kind }) => kind === "ready");
  ok(event?.kind === "ready", readFileSync(join(state, "console.log"), "utf8").slice(-3000));
  if (event.port === undefined) await listens(url!);
  return url!;
}

/** What a command of ours prints. This process goes on meanwhile: it is also the host that makes the guests' quotes. */
const caisson = async (...args: string[]): Promise<string> =>
  (await promisify(execFile)(join(repository, "caisson"), args, { timeout: 120_000 })).stdout;

/** A keeper's key in `place`, as the command line takes it. */
const keeperKey = (place: string, name: string): string[] => [
  join(place, `${name}.key`),
  "--passphrase-file",
  join(place, "passphrase"),
];

/** Two keepers of shares, both of whom are needed; their keys lie in `place`. */
export class Keepers {
  static readonly #names = ["cleo", "dan"];
  readonly names = Keepers.#names;
  readonly #place: string;
  /** What the image of a KMS has besides for them. */
  readonly files: Readonly<Record<string, string>>;

  private constructor(place: string, keepers: readonly object[]) {
    this.#place = place;
    this.files = { "keepers.json": JSON.stringify({ threshold: keepers.length, keepers }) };
  }

  static async make(place: string): Promise<Keepers> {
    mkdirSync(place);
    writeFileSync(join(place, "passphrase"), "only for this test\n");
    const keepers: object[] = [];
    for (const name of Keepers.#names) {
      const key = await caisson("kms", "shares", "key", ...keeperKey(place, name));
      keepers.push({ name, key: key.trim() });
    }
    return new Keepers(place, keepers);
  }

  /** One gives a share, with the key of `as`, to the guest at `url`, by `judgedBy`: options of `caisson kms verify`. */
  async give(
    shares: string,
    url: string,
    judgedBy: readonly string[],
    name: string,
    as = name,
  ): Promise<void> {
    const file = join(this.#place, "shares.json");
    writeFileSync(file, shares);
    const own = ["--keeper", name, "--key", ...keeperKey(this.#place, as)];
    await caisson("kms", "shares", "give", file, url, ...own, ...judgedBy);
  }
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

type Asked<R> = R extends OperatorRequest ? Omit<R, "version" | "kms" | "expires"> : never;

/** Two operators ask the KMS `kms`. */
export async function askAsOperators(
  url: string,
  kms: string,
  request: Asked<OperatorRequest>,
): Promise<void> {
  const expires = Date.now() + 600_000;
  const asked = { version: "caisson/kms-request/v1", kms, expires, ...request } as OperatorRequest;
  const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(asked), ada, bob)));
  const answer = await fetch(new URL("/v1/admin", url), { method: "POST", body });
  equal(answer.status, 200, await answer.text());
}

/** Two operators ask for the policy of an application that has none. */
export const setPolicy = (url: string, identity: string, file: { app: string }): Promise<void> =>
  askAsOperators(url, identity, {
    action: "policy/set",
    app: file.app,
    replaces: 0,
    policy: JSON.stringify(file),
  });

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
