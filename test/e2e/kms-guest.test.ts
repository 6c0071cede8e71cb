// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS as a guest: the first makes the root secret, the second takes it from the first, and an application gets its
 * key from the second when the first is gone. A KMS with another measurement gets nothing. Log and rows are in a
 * PostgreSQL of the host's, which nobody trusts.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, readSpec } from "@caisson/image";
import { type OperatorRequest, operatorEnvelope, postgresql, verifyReleaseLog } from "@caisson/kms";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { developmentPolicy } from "@caisson/machine/development-policy";
import { type Session, startSession } from "@caisson/machine/session";
import { applicationId } from "@caisson/protocol/guest-config";
import type { Instance } from "@caisson/protocol/instance";
import { writeEnvelope } from "@caisson/releases";
import { keysOf } from "@caisson/releases/testing/owners";
import { signedBy, signer } from "@caisson/releases/testing/signers";
import { simulatedPlatform } from "@caisson/simulated/simulated-platform";
import { makeKms } from "../../examples/kms/make.ts";
import { image, references, shape } from "../support/image.ts";
import { startPostgres } from "../support/postgresql.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-kms-guest-"));
const ends: (() => Promise<void> | void)[] = [() => rmSync(place, { recursive: true, force: true })];
after(async () => {
  for (const end of ends.reverse()) await end();
});

const platform = simulatedPlatform(Date.now());
const [ada, bob] = [signer("operator ada"), signer("operator bob")];
const owners = await DevelopmentOwners.open(join(place, "owners"), "kms");

/** Which guests are replicas, and who may be a KMS to who relies on one: the image that the owners released. */
const peers = {
  version: "caisson/policy/v1",
  platforms: ["emulated"],
  simulatedRoot: platform.root,
  tcb: { minimumEvaluationNumber: "any" },
  platformIdentities: "any",
  registers: { rtmr0: "any", hostAcpi: "any" },
  app: { identity: { id: owners.id }, instanceId: "any" },
  secureTime: { origins: ["instance"] },
};
const collateral = join(place, "collateral.json");
const policy = join(place, "peers.json");

/** At night its image has keepers, who recover the root secret at the end (test/nightly/kms-recovery.test.ts). */
const recovers = process.env.CAISSON_TEST_RECOVERY === "1";
/** Two keepers of shares, both of whom are needed. */
const keepers = ["cleo", "dan"].map((name) => ({ name, file: join(place, `${name}.key`) }));
const passphrase = join(place, "passphrase");

/** What a command of ours prints. This process goes on meanwhile: it is also the host that makes the guests' quotes. */
const caisson = async (...args: string[]): Promise<string> =>
  (await promisify(execFile)(join(repository, "caisson"), args, { timeout: 120_000 })).stdout;

/** The image of `examples/kms`, with more files; `line` makes another program of it. */
async function kmsImage(name: string, more: Record<string, string>, line = ""): Promise<Built> {
  const [files, directory] = [join(place, `${name}-files`), join(place, name)];
  mkdirSync(join(files, "collateral"), { recursive: true });
  cpSync(collateral, join(files, "collateral/simulated.json"));
  cpSync(policy, join(files, "peers.json"));
  writeFileSync(join(files, "operators.json"), JSON.stringify(keysOf(2, ada, bob)));
  for (const [file, content] of Object.entries(more)) writeFileSync(join(files, file), content);
  mkdirSync(directory);
  for (const file of ["caisson.yaml", "caisson.lock"]) {
    cpSync(join(repository, "examples/kms", file), join(directory, file));
  }
  await makeKms(files, join(directory, "app"));
  appendFileSync(join(directory, "app/main.mjs"), line);
  appendFileSync(
    join(directory, "caisson.yaml"),
    `  environment: { KMS_DATABASE: "${database.replace("127.0.0.1", "10.0.2.2")}" }\n`,
  );
  writeFileSync(join(directory, "identity.json"), owners.identity);
  return prepare(await readSpec(directory), "development", {}, new Progress());
}

let database: string;
let kms: Built;

/** Makes the keepers' keys, and the file that names them. */
async function keepersFile(): Promise<Record<string, string>> {
  writeFileSync(passphrase, "only for this test\n");
  const keys: { name: string; key: string }[] = [];
  for (const { name, file } of keepers) {
    const key = await caisson("kms", "shares", "key", file, "--passphrase-file", passphrase);
    keys.push({ name, key: key.trim() });
  }
  return { "keepers.json": JSON.stringify({ threshold: 2, keepers: keys }) };
}

before(async () => {
  writeFileSync(collateral, JSON.stringify(platform.collateral));
  writeFileSync(policy, JSON.stringify(peers));
  database = (await startPostgres((end) => ends.push(end))).database();
  kms = await kmsImage("kms", recovers ? await keepersFile() : {});
});

interface Start {
  as: string;
  built: Built;
  provider: Instance["kms"];
  /** Its owners released it after the one that there is. */
  upgrade?: boolean;
}
/** The newest release of a KMS's image. */
let released: ReturnType<DevelopmentOwners["release"]> | undefined;

/** Starts a guest whose key provider is `provider`, or none. */
async function start({ as, built, provider, upgrade = false }: Start): Promise<Session> {
  const { directory, manifest } = built;
  const session = await startSession({
    image: directory,
    manifest,
    shape,
    references: await references(directory),
    state: join(place, `${as}.state`),
    limitMs: 400_000,
    ...(manifest.guest.app.identity !== undefined && {
      owners: {
        id: owners.id,
        release: (...about) => (upgrade ? owners.release(...about) : (released ??= owners.release(...about))),
        secrets: () => Promise.reject(new Error("it has no secrets")),
      },
    }),
    hooks: {
      instance: ({ kms: _, ...instance }) => ({ ...instance, ...(provider && { kms: provider }) }),
    },
  });
  ends.push(() => session.stop());
  return session;
}

const consoleOf = ({ state }: Session) => readFileSync(join(state, "console.log"), "utf8");

/** Waits until the application answers; its address. */
async function ready(session: Session): Promise<string> {
  const event = await session.vm.event(({ kind }) => kind === "ready");
  ok(event?.kind === "ready", consoleOf(session).slice(-3000));
  return session.url!;
}

/** Where another guest reaches it. */
const fromGuest = (url: string) => url.replace("127.0.0.1", "10.0.2.2").replace(/\/$/, "");

interface Verified {
  verdict: string;
  codes: string[];
  kms: { identityKey: string; first: boolean };
}

/** `caisson kms verify`. */
async function verify(url: string, ...more: string[]): Promise<{ status: number; answer: Verified }> {
  const args = ["kms", "verify", url, "--policy", policy, "--collateral", collateral, "--json", ...more];
  const child = spawn(join(repository, "caisson"), args, { stdio: ["ignore", "pipe", "inherit"] });
  const status = new Promise<number>((resolve) => void child.once("exit", (code) => resolve(code ?? -1)));
  return { answer: JSON.parse(await text(child.stdout)) as Verified, status: await status };
}

/** Two operators ask for the policy of an application. */
async function setPolicy(url: string, identity: string, built: Built): Promise<void> {
  const app = applicationId(built.manifest.guest).toHex();
  const values = await references(built.directory);
  const file = {
    version: "caisson/kms-policy/v1",
    app,
    keyVersion: 1,
    policy: { ...developmentPolicy(built.manifest, values, platform.root), references: [values] },
  };
  const asked: OperatorRequest = {
    version: "caisson/kms-request/v1",
    action: "policy/set",
    kms: identity,
    app,
    replaces: 0,
    expires: Date.now() + 600_000,
    policy: JSON.stringify(file),
  };
  const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(asked), ada, bob)));
  const answer = await fetch(new URL("/v1/admin", url), { method: "POST", body });
  equal(answer.status, 200, await answer.text());
}

let first: { session: Session; url: string; identity: string };
let shares: string;
let second: { session: Session; url: string };

test("the first makes the root secret, and says so to who verifies it", async () => {
  const session = await start({ as: "first", built: kms, provider: undefined });
  const url = await ready(session);
  const { status, answer } = await verify(url);
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  deepEqual([status, answer.kms.first], [0, true]);
  match(answer.kms.identityKey, /^[0-9a-f]{64}$/);
  first = { session, url, identity: answer.kms.identityKey };
  equal((await verify(url, "--identity", "00".repeat(32))).status, 10);
  await setPolicy(url, first.identity, kms);
  await setPolicy(url, first.identity, await image());
  if (recovers) shares = await (await fetch(new URL("/v1/shares", url))).text();
});

test("another replica takes it from the first, which it judged", async () => {
  const provider = { url: fromGuest(first.url), identity: first.identity };
  const session = await start({ as: "second", built: kms, provider });
  const url = await ready(session);
  const { status, answer } = await verify(url, "--identity", first.identity);
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  deepEqual([status, answer.kms], [0, { identityKey: first.identity, first: false }]);
  second = { session, url };
});

test("an application gets its key from the second when the first is gone", async () => {
  await first.session.stop();
  const provider = { url: fromGuest(second.url), identity: first.identity };
  const session = await start({ as: "application", built: await image(), provider });
  const answer = await fetch(await ready(session), { headers: { accept: "application/json" } });
  const seen = (await answer.json()) as { keyProvider: string; publicKey: string };
  equal(seen.keyProvider, first.identity);
  match(seen.publicKey, /^[0-9a-f]{64}$/);
  await session.stop();
});

test("a KMS with another measurement gets nothing, and that is in the log", async () => {
  const other = await kmsImage("other", {}, "\nconsole.log('and more');\n");
  const provider = { url: fromGuest(second.url), identity: first.identity };
  const session = await start({ as: "other", built: other, provider });
  await session.vm.ended;
  const failed = session.vm.events.findLast((event) => event.kind === "stage" && event.state === "failed");
  ok(failed?.kind === "stage" && failed.state === "failed", consoleOf(session).slice(-3000));
  match(failed.reason, /^keys\/denied\/(release|registers|bundle)\//);
  await session.stop();
});

const atNight = recovers ? test : () => {};
void atNight("when all are gone, keepers give the root secret to a guest that they judged", async () => {
  await second.session.stop();
  const built = await kmsImage("recovering", { "shares.json": shares });
  const session = await start({ as: "recovered", built, provider: undefined, upgrade: true });
  const url = await ready(session);
  const file = join(place, "shares.json");
  writeFileSync(file, shares);
  for (const { name, file: key } of keepers) {
    const own = ["--keeper", name, "--key", key, "--passphrase-file", passphrase];
    await caisson("kms", "shares", "give", file, url, ...own, "--policy", policy, "--collateral", collateral);
  }
  for (let i = 0; i < 50; i++) {
    const answer = await fetch(new URL("/healthz", url)).catch(() => undefined);
    if (answer?.status === 200) break;
    await sleep(200);
  }
  const { status, answer } = await verify(url, "--identity", first.identity);
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  equal(status, 0);
  await session.stop();
});

test("the log, in the host's database, is whole and has who got keys", async () => {
  const outcomes: string[] = [];
  const report = await verifyReleaseLog(
    await postgresql([database]),
    { identity: first.identity },
    (_, entry) => {
      const { outcome, reason } = entry;
      outcomes.push(
        outcome === "released" ? outcome : reason.replace(/^(release|registers|bundle)\/.*/, "denied"),
      );
    },
  );
  equal(report.identity, first.identity);
  const expected = ["operators/begin", "policy/set", "policy/set", "released", "released", "denied"];
  const recovery = recovers ? ["shares/made 2 of 2", "volumes: restored"] : [];
  deepEqual(outcomes.sort(), [...expected, ...recovery].sort());
});
