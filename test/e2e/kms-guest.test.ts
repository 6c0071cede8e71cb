// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS as a guest: the first makes the root secret, the second takes it from the first, and an application gets its
 * key from the second when the first is gone. A KMS with another measurement gets nothing. Log and rows are in a
 * PostgreSQL of the host's, which nobody trusts.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, readSpec } from "@caisson/image";
import { postgresql, verifyReleaseLog } from "@caisson/kms";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { developmentPolicy } from "@caisson/machine/development-policy";
import type { Session } from "@caisson/machine/session";
import { applicationId } from "@caisson/protocol/guest-config";
import type { Instance } from "@caisson/protocol/instance";
import { type CollateralServer, serveCollateral } from "@caisson/simulated/collateral-server";
import { simulatedPlatform } from "@caisson/simulated/simulated-platform";
import { image, references } from "../support/image.ts";
import {
  answering,
  fromGuest,
  Keepers,
  kmsRules,
  policyFile,
  setPolicy,
  startUnder,
  verifyKms,
  writeKms,
} from "../support/kms-guest.ts";
import { startPostgres } from "../support/postgresql.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-kms-guest-"));
const ends: (() => Promise<void> | void)[] = [() => rmSync(place, { recursive: true, force: true })];
after(async () => {
  for (const end of ends.reverse()) await end();
});

/**
 * At night (test/nightly/kms-recovery.test.ts) its image has keepers, who recover the root secret at the end, and a source
 * of collateral in place of files; what guests bring (18) is then not enough for its policies.
 */
const recovers = process.env.CAISSON_TEST_RECOVERY === "1";
const atNight = recovers ? test : () => {};
const day = 24 * 3600 * 1000;
/** What the source serves first is in the last third of its validity: due as soon as somebody has it. */
const [served, renewed] = [19, 20];
const platform = recovers ? simulatedPlatform(Date.now() - 25 * day, served) : simulatedPlatform(Date.now());
const fmspc = "ca1550000000";
const owners = await DevelopmentOwners.open(join(place, "owners"), "kms");

/** Which guests are replicas, and who may be a KMS to who relies on one: the image that the owners released. */
const peers = kmsRules(owners.id, platform.root, {
  tcb: { minimumEvaluationNumber: recovers ? served : "any" },
});
const collateral = join(place, "collateral.json");
const policy = join(place, "peers.json");

/** The image of `examples/kms`, with more files; `line` makes another program of it. */
async function kmsImage(name: string, more: Record<string, string>, line = ""): Promise<Built> {
  const directory = join(place, name);
  const environment = {
    KMS_DATABASE: fromGuest(database),
    ...(recovers && { KMS_COLLATERAL_SOURCE: fromGuest(source.url) }),
  };
  const files = {
    ...(!recovers && { "collateral/simulated.json": JSON.stringify(platform.collateral) }),
    "peers.json": JSON.stringify(peers),
    ...more,
  };
  await writeKms(directory, files, owners.identity, `  environment: ${JSON.stringify(environment)}\n`);
  appendFileSync(join(directory, "app/main.mjs"), line);
  return prepare(await readSpec(directory), "development", {}, new Progress());
}

let database: string;
let keepers: Keepers;
let kms: Built;
/** Speaks as Intel's PCS does, so many times. */
let source: CollateralServer;
let answers = Number.POSITIVE_INFINITY;
/** What it is asked for one platform: TCB info, QE identity, two lists. */
const documents = 4;

before(async () => {
  writeFileSync(collateral, JSON.stringify(platform.collateral));
  writeFileSync(policy, JSON.stringify(peers));
  database = (await startPostgres((end) => ends.push(end))).database();
  source = await serveCollateral({ [`${fmspc.toUpperCase()}/standard`]: platform.collateral }, [], {
    get status() {
      return source.asked.length > answers ? 404 : undefined;
    },
  } as object);
  ends.push(() => source.close());
  if (recovers) keepers = await Keepers.make(join(place, "keepers"));
  kms = await kmsImage("kms", recovers ? keepers.files : {});
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
  const session = await startUnder(provider, built, {
    state: join(place, `${as}.state`),
    ...(built.manifest.guest.app.identity !== undefined && {
      owners: {
        id: owners.id,
        release: (...about) => (upgrade ? owners.release(...about) : (released ??= owners.release(...about))),
        secrets: () => Promise.reject(new Error("it has no secrets")),
      },
    }),
  });
  ends.push(() => session.stop());
  return session;
}

const consoleOf = ({ state }: Session) => readFileSync(join(state, "console.log"), "utf8");

/** By what a replica judges another. */
const judgedBy = ["--policy", policy, "--collateral", collateral];
const verify = (url: string, ...more: string[]) => verifyKms(url, ...judgedBy, ...more);

/** One metric of a KMS. */
async function metric(url: string, name: string): Promise<number> {
  const lines = (await (await fetch(new URL("/metrics", url))).text()).split("\n");
  return Number(lines.find((line) => line.startsWith(`${name} `))?.slice(name.length));
}
const looks = (url: string, result: string) =>
  metric(url, `caisson_kms_collateral_fetches_total{result="${result}"}`);

/** Waits until `done`, for two minutes at most. */
async function until(done: () => Promise<boolean>, what: () => string): Promise<void> {
  for (let i = 0; i < 240; i++) {
    if (await done()) return;
    await sleep(500);
  }
  throw new Error(what());
}

/** The policy of an application, as two operators sign it; `minimum`: of what its collateral has to be, at night. */
async function givePolicy(url: string, identity: string, built: Built, minimum: number): Promise<void> {
  const values = await references(built.directory);
  const asked = {
    ...developmentPolicy(built.manifest, values, platform.root),
    ...(recovers && { tcb: { minimumEvaluationNumber: minimum }, fmspcs: [fmspc] }),
    references: [values],
  };
  await setPolicy(url, identity, policyFile(applicationId(built.manifest.guest).toHex(), asked));
}

let first: { session: Session; url: string; identity: string };
let shares: string;
let second: { session: Session; url: string };

test("the first makes the root secret, and says so to who verifies it", async () => {
  const session = await start({ as: "first", built: kms, provider: undefined });
  const url = await answering(session);
  const { status, answer } = await verify(url);
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  deepEqual([status, answer.kms.first], [0, true]);
  match(answer.kms.identityKey, /^[0-9a-f]{64}$/);
  first = { session, url, identity: answer.kms.identityKey };
  equal((await verify(url, "--identity", "00".repeat(32))).status, 10);
  await givePolicy(url, first.identity, kms, served);
  await givePolicy(url, first.identity, await image(), renewed);
  if (recovers) shares = await (await fetch(new URL("/v1/shares", url))).text();
});

void atNight(
  "its collateral is there as soon as a policy names the platform, before a guest of it came",
  async () => {
    await until(
      async () => (await looks(first.url, "renewed")) === 1,
      () => consoleOf(first.session).slice(-3000),
    );
    // Each reading of policies looks for what is due; all of it is.
    for (let before = 0; before < source.asked.length; await sleep(5000)) before = source.asked.length;
    equal(source.asked.length % documents, 0, source.asked.join("\n"));
    equal(await metric(first.url, "caisson_kms_released_total"), 0);
  },
);

test("another replica takes it from the first, which it judged", async () => {
  answers = source.asked.length + documents;
  const provider = { url: fromGuest(first.url), identity: first.identity };
  const session = await start({ as: "second", built: kms, provider });
  const url = await answering(session);
  const { status, answer } = await verify(url, "--identity", first.identity);
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  deepEqual([status, answer.kms], [0, { identityKey: first.identity, first: false }]);
  second = { session, url };
});

void atNight(
  "the replica fetched before it judged the first; a source that is down changes nothing, and is asked again",
  async () => {
    const { session, url } = second;
    const expiry = () => metric(url, "caisson_kms_collateral_expiry_timestamp_seconds");
    await until(
      async () => (await looks(url, "failed")) > 0,
      () => consoleOf(session).slice(-3000),
    );
    const before = await expiry();
    ok(before > Date.now() / 1000, "what it has is in force");
    const newer = simulatedPlatform(Date.now(), renewed);
    source.intel.set(`${fmspc.toUpperCase()}/standard`, newer.collateral);
    answers = Number.POSITIVE_INFINITY;
    await until(
      async () => (await expiry()) > before + (20 * day) / 1000,
      () => consoleOf(session).slice(-3000),
    );
    for (const said of [/"collateral-not-renewed".*404/, /"collateral-renewed"/]) {
      ok(await session.vm.event((event) => event.kind === "app" && said.test(event.line)), String(said));
    }
  },
);

test("an application gets its key from the second when the first is gone", async () => {
  await first.session.stop();
  const provider = { url: fromGuest(second.url), identity: first.identity };
  const session = await start({ as: "application", built: await image(), provider });
  const answer = await fetch(await answering(session), { headers: { accept: "application/json" } });
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

void atNight("when all are gone, keepers give the root secret to a guest that they judged", async () => {
  await second.session.stop();
  const built = await kmsImage("recovering", { "shares.json": shares });
  const session = await start({ as: "recovered", built, provider: undefined, upgrade: true });
  const url = await answering(session);
  for (const name of keepers.names) await keepers.give(shares, url, judgedBy, name);
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
