// SPDX-License-Identifier: Apache-2.0
/**
 * A chain of guests without an operator whom anybody trusts: a KMS in a guest, whose log is in a PostgreSQL of the
 * host's, opens the volume of a KMS in another guest, which opens the volume of an application. The database lies, the
 * first KMS is lost and recovered by its keepers, and then the second, whose disk is lost, by its own: the application
 * has its number still.
 */
import { equal, match, notEqual, ok, rejects } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { freeTcpPort } from "@caisson/host/ports";
import { type Built, readSpec } from "@caisson/image";
import { postgresql, verifyReleaseLog } from "@caisson/kms";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { developmentPolicy } from "@caisson/machine/development-policy";
import type { Session } from "@caisson/machine/session";
import { applicationId } from "@caisson/protocol/guest-config";
import { simulatedPlatform } from "@caisson/simulated/simulated-platform";
import { references } from "../support/image.ts";
import {
  answering,
  askAsOperators,
  fromGuest,
  Keepers,
  kmsRules,
  onVolume,
  policyFile,
  setPolicy,
  startUnder,
  under,
  verifyKms,
  writeKms,
} from "../support/kms-guest.ts";
import { type Postgres, startPostgres } from "../support/postgresql.ts";
import { ask, counterImage, type Outcome, VolumeHost } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-kms-chain-"));
const ends: (() => Promise<unknown> | void)[] = [() => rmSync(place, { recursive: true })];
after(async () => {
  for (const end of ends.reverse()) await end();
});

const platform = simulatedPlatform(Date.now());
const collateral = join(place, "collateral.json");

/** One of the two KMS: whose image, with which keepers; the key and the shares of the one that runs. */
interface Link {
  owners: DevelopmentOwners;
  keepers: Keepers;
  identity: string;
  shares: string;
}
const link = async (name: string): Promise<Link> => ({
  owners: await DevelopmentOwners.open(join(place, `${name}-owners`), "kms"),
  keepers: await Keepers.make(join(place, `${name}-keepers`)),
  identity: "",
  shares: "",
});

let postgres: Postgres;
let database: string;
let company: Link;
let department: Link;
/** Where the company's KMS is, whichever guest that is now. */
let port: number;
let running: Session;
let host: VolumeHost;
let counter: VolumeHost;
/** The guests that run. */
let lower: Outcome;

/** An image of the company's KMS, which has no volume, or of the department's, which has one. */
async function kmsImage(name: string, of: Link, more: Readonly<Record<string, string>>): Promise<Built> {
  const directory = join(place, name);
  const { owners, keepers } = of;
  // One recovery was there before, its operators say: the database does not know of it.
  const environment = {
    KMS_DATABASE: fromGuest(database),
    ...("shares.json" in more && { KMS_RESTORED_BEFORE: "1" }),
  };
  const spec = of === department ? onVolume : `  environment: ${JSON.stringify(environment)}\n`;
  const files = { ...(of === company && { "peers.json": JSON.stringify(rules(of)) }), ...keepers.files };
  await writeKms(directory, { ...files, ...more }, owners.identity, spec);
  return prepare(await readSpec(directory), "development", {}, new Progress());
}

before(async () => {
  postgres = await startPostgres((end) => ends.push(end));
  database = postgres.database();
  company = await link("company");
  department = await link("department");
  port = await freeTcpPort();
  writeFileSync(collateral, JSON.stringify(platform.collateral));
});

/** Which guests are a KMS of these owners'; `upstream` is the one that may open its volume. */
const rules = ({ owners }: Link, upstream?: string) =>
  kmsRules(
    owners.id,
    platform.root,
    upstream === undefined
      ? {}
      : { volumes: { names: ["data"] }, keyProviders: [{ name: "kms", id: upstream }] },
  );

/** How somebody who relies on a KMS judges it. */
function judgedBy(of: Link, upstream?: string): string[] {
  const file = join(place, "policy.json");
  writeFileSync(file, JSON.stringify(rules(of, upstream)));
  return ["--policy", file, "--collateral", collateral];
}

/** Who answers at `url`, which has to be accepted. */
async function verified(url: string, of: Link, upstream?: string) {
  const { status, answer } = await verifyKms(url, ...judgedBy(of, upstream));
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  equal(status, 0);
  return answer.kms;
}

const sharesAt = async (url: string): Promise<string> => (await fetch(new URL("/v1/shares", url))).text();

/** Starts the company's KMS; its address. */
async function startCompany(built: Built, state: string): Promise<string> {
  const options = { state: join(place, state), owners: company.owners, port, limitMs: 1_800_000 };
  const session = await startUnder(undefined, built, options);
  ends.push(() => session.stop());
  running = session;
  return answering(session);
}

const consoleOf = ({ state }: Session) => readFileSync(join(state, "console.log"), "utf8").slice(-3000);
const up = (): Parameters<typeof under>[0] => ({ url: fromGuest(running.url!), identity: company.identity });

/** Boots a machine whose keys come from `provider`. */
async function boot(machine: VolumeHost, provider = up()): Promise<Outcome> {
  return machine.boot(under(provider));
}
/** One whose volume its KMS does not trust, until operators said a word. */
async function allowed(
  machine: VolumeHost,
  by: { url: string; identity: string },
  provider = up(),
): Promise<Outcome> {
  const { reason, message } = await boot(machine, provider);
  equal(reason, "keys/denied/volume/suspect", message);
  await allow(by.url, by.identity);
  return ready(machine, provider);
}

async function ready(machine: VolumeHost, provider = up()): Promise<Outcome> {
  const outcome = await boot(machine, provider);
  equal(outcome.reason, "ready", `${outcome.message}\n${consoleOf(outcome.session)}`);
  return outcome;
}
/** The counter, whose keys come from the department's KMS. */
const below = (): Parameters<typeof under>[0] => ({
  url: fromGuest(lower.session.url!),
  identity: department.identity,
});
const count = async (outcome: Outcome) => ((await ask(outcome, "GET", "")) as { count: number }).count;

/** Two operators of the KMS at `url` give the policy of an image that has a volume. */
async function givePolicy(url: string, identity: string, { manifest, directory }: Built): Promise<void> {
  const values = await references(directory);
  const file = {
    ...developmentPolicy(manifest, values, platform.root),
    ...(manifest.guest.app.identity === undefined
      ? { references: [values] }
      : // Its owners say which images it has.
        { registers: { rtmr0: "any", hostAcpi: "any" } }),
  };
  await setPolicy(url, identity, policyFile(applicationId(manifest.guest).toHex(), file));
}

/** Two operators of the KMS at `url` allow the one volume that waits for their word. */
async function allow(url: string, identity: string): Promise<void> {
  const answer = (await (await fetch(new URL("/v1/volumes", url))).json()) as {
    operations: number;
    volumes: { volume: string; suspect: boolean }[];
  };
  const [waiting, ...others] = answer.volumes.filter(({ suspect }) => suspect);
  ok(waiting !== undefined && others.length === 0, JSON.stringify(answer));
  await askAsOperators(url, identity, {
    action: "volume/operate",
    replaces: answer.operations,
    volume: waiting.volume,
    operation: "allow",
  });
}

test("a KMS in a guest opens the volume of another one: who verifies them needs no operator's word", async () => {
  const url = await startCompany(await kmsImage("company", company, {}), "company.state");
  const kms = await verified(url, company);
  equal(kms.first, true);
  company.identity = kms.identityKey;
  company.shares = await sharesAt(url);
  const image = await kmsImage("department", department, {});
  await givePolicy(url, company.identity, image);
  host = new VolumeHost(image, join(place, "department-host"));
  host.owners = department.owners;
  ends.push(() => host.remove());
  lower = await ready(host);
  const own = await verified(lower.session.url!, department, company.identity);
  equal(own.upstream, company.identity);
  notEqual(own.identityKey, company.identity);
  department.identity = own.identityKey;
  department.shares = await sharesAt(lower.session.url!);
  host.keep("disk", "early");
});

test("an application below them keeps a number over power cuts of both, and an older disk is refused", async () => {
  const image = await counterImage(join(place, "counter"));
  counter = new VolumeHost(image, join(place, "counter-host"));
  ends.push(() => counter.remove());
  await givePolicy(lower.session.url!, department.identity, image);
  const first = await ready(counter, below());
  await ask(first, "POST", "increment");
  await counter.pull(first);
  await host.pull(lower);
  host.keep("disk", "newest");
  host.putBack("disk", "early");
  equal((await boot(host)).reason, "volume/stale");
  host.putBack("disk", "newest");
  lower = await ready(host);
  equal((await verified(lower.session.url!, department, company.identity)).identityKey, department.identity);
  const second = await ready(counter, below());
  equal(await count(second), 1);
  await ask(second, "POST", "increment");
  await counter.pull(second);
});

const tables = ["entry", "head", "record", "node", "nonce"];
const sql = (text: string): string => postgres.sql(database, text);
function keepDatabase(name: string): void {
  sql(
    `CREATE SCHEMA ${name}; ${tables.map((of) => `CREATE TABLE ${name}.${of} AS TABLE caisson_kms.${of};`).join("")}`,
  );
}
function putDatabaseBack(name: string): void {
  const each = (of: string) =>
    `DELETE FROM caisson_kms.${of}; INSERT INTO caisson_kms.${of} SELECT * FROM ${name}.${of};`;
  sql(tables.map(each).join(""));
}
/** One bit of each volume's row is another one. */
const alterVolumes = () =>
  sql(
    "UPDATE caisson_kms.record SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) WHERE name = 'volumes'",
  );

test("a database that lies to a guest gets no key released, and nothing is lost once it is as it was", async () => {
  await host.pull(lower);
  keepDatabase("older");
  await host.pull(await ready(host));
  keepDatabase("newest");
  putDatabaseBack("older");
  const turnedBack = await boot(host);
  match(`${turnedBack.reason} ${turnedBack.message}`, /log\/rolled-back/);
  putDatabaseBack("newest");
  alterVolumes();
  const altered = await boot(host);
  match(`${altered.reason} ${altered.message}`, /log\/rows/);
  putDatabaseBack("newest");
  lower = await ready(host);
});

/** The keepers of `of` give their shares to the guest at `url`; the second after `between`. */
async function recover(url: string, of: Link, upstream?: string, between = () => {}): Promise<void> {
  const [first, second] = of.keepers.names as [string, string];
  const give = (name: string, as = name) => of.keepers.give(of.shares, url, judgedBy(of, upstream), name, as);
  await rejects(give(first, second), new RegExp(`the share of ${first} does not open`));
  await give(first);
  between();
  await give(second);
}

/** Waits until a KMS that recovers serves. */
async function serves(session: Session): Promise<void> {
  const said = await session.vm.event(
    (event) => event.kind === "app" && /^KMS [0-9a-f]{64}/.test(event.line),
  );
  ok(said, consoleOf(session));
}

/** What somebody who watches the KMS above kept before it was lost. */
let kept: { sequence: number; hash: string };

test("keepers recover the KMS above: altered rows end it; after rows that went back a volume waits for operators' word", async () => {
  kept = (await (await fetch(new URL("/v1/log/head", running.url))).json()) as typeof kept;
  await running.stop();
  const image = await kmsImage("company-recovers", company, { "shares.json": company.shares });
  const fooled = await startCompany(image, "fooled.state");
  await recover(fooled, company, undefined, alterVolumes);
  await running.vm.ended;
  ok(
    await running.vm.event((event) => event.kind === "app" && event.line.includes("[log/rows]")),
    consoleOf(running),
  );
  await running.stop();
  // The ticket on the disk tells it what this database no longer knows.
  putDatabaseBack("older");

  const url = await startCompany(image, "recovered.state");
  await recover(url, company);
  await serves(running);
  equal((await verified(url, company)).identityKey, company.identity);
  lower = await allowed(host, { url, identity: company.identity });
  equal((await verified(lower.session.url!, department, company.identity)).identityKey, department.identity);
  const again = await ready(counter, below());
  equal(await count(again), 2);
  await counter.pull(again);
});

test("keepers recover the KMS whose disk is lost onto a new volume; what it opened waits for operators' word, and is there", async () => {
  await host.remove();
  const image = await kmsImage("department-recovers", department, { "shares.json": department.shares });
  host = new VolumeHost(image, join(place, "department-other-host"));
  host.owners = department.owners;
  // Nor does the one above know whether there was such a volume before it was lost.
  lower = await allowed(host, { url: running.url!, identity: company.identity });
  const { url } = lower.session;
  await recover(url!, department, company.identity);
  await serves(lower.session);
  equal((await verified(url!, department, company.identity)).identityKey, department.identity);
  await givePolicy(url!, department.identity, counter.built);
  const found = await allowed(counter, { url: url!, identity: department.identity }, below());
  equal(await count(found), 2);
  await counter.pull(found);
  // It starts again from its new volume, without its keepers.
  await host.pull(lower);
  lower = await ready(host);
  equal((await verified(lower.session.url!, department, company.identity)).identityKey, department.identity);
  await host.stop();
});

test("the log above has each recovery and each word; a head that was kept says that the database went back", async () => {
  await running.stop();
  const said: string[] = [];
  const about = { identity: company.identity };
  await verifyReleaseLog(await postgresql([database]), about, (_, { reason }) => void said.push(reason));
  const watched = verifyReleaseLog(await postgresql([database]), { ...about, witness: kept });
  await rejects(watched, { code: "log/head", message: /cut off or replaced/ });
  const all = said.join("\n");
  match(all, /^operators\/begin$/m);
  match(all, /^shares\/made 2 of 2$/m);
  match(all, /^volumes: restored$/m);
  const [, epoch] = /^volume [0-9a-f]{16} restored: epoch (\d+)/m.exec(all) ?? [];
  ok(Number(epoch) > 2 ** 17 + 2 ** 16, `${epoch} is beyond what one recovery may have given out`);
  match(all, /^volume [0-9a-f]{16} allow/m);
});
