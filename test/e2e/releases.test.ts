// SPDX-License-Identifier: Apache-2.0
/**
 * The life of an application as drills on real machines, its owners doing everything by the commands of docs/releases.md:
 * an image that others built again, its secrets, its upgrade by other owners, the way back, a revocation. Two of three
 * owners sign; the KMS follows a log that a witness saw.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { hash } from "node:crypto";
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, cacheDirectory, readSpec } from "@caisson/image";
import { fetchLog } from "@caisson/log";
import { judgeFresh } from "@caisson/machine/relying-party";
import { type ImageOwners, type Session, type SessionHooks, startSession } from "@caisson/machine/session";
import { type Envelope, readEnvelope, readTrustPolicy } from "@caisson/releases";
import { readPolicy, readReferences } from "@caisson/verify";
import { references, shape } from "../support/image.ts";
import { OwnerCommands } from "../support/owner-commands.ts";
import { writeSpec } from "../support/services.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-drills-"));
const limitMs = 600_000;

const owners = new OwnerCommands(place);
const read = (file: string): string => readFileSync(join(place, file), "utf8");
const envelope = (file: string): Envelope => readEnvelope(JSON.parse(read(file)));
const hashOf = (file: string): string => hash("sha256", envelope(file).payload);

let id: string;
let logUrl: string;
let images: { old: Built; next: Built };
/** Names of the files of all sets of secrets, in the order in which they were sealed. */
const sets: string[] = [];

/** What a service shows of itself: whose key it has, and what it was given. */
const program = `
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
const { createServer, request } = process.getBuiltinModule("node:http");
const call = (method, path, body) => new Promise((resolve, reject) => {
  const sent = request({ socketPath: "/run/caisson.sock", method, path }, async (response) => {
    let text = "";
    for await (const chunk of response) text += chunk;
    resolve(JSON.parse(text));
  });
  sent.once("error", reject).end(body && JSON.stringify(body));
});
const attempt = (action) => { try { return action(); } catch (error) { return error.code; } };
createServer(async (incoming, outgoing) => {
  const url = new URL(incoming.url, "http://x");
  if (url.pathname.startsWith("/.well-known")) {
    outgoing.end(JSON.stringify(await call("POST", "/evidence", { nonce: url.searchParams.get("nonce") })));
    return;
  }
  const { key } = await call("POST", "/key", { path: "data", purpose: "disk" }).catch(() => ({ key: "" }));
  outgoing.end(JSON.stringify({
    key: createHash("sha256").update(key).digest("hex"),
    names: attempt(() => readdirSync("/run/secrets").sort()),
    secret: attempt(() => readFileSync("/run/secrets/DB_URL", "utf8")),
    mode: attempt(() => (statSync("/run/secrets/DB_URL").mode & 0o777).toString(8)),
    owner: attempt(() => statSync("/run/secrets/DB_URL").uid === process.getuid()),
    writing: attempt(() => writeFileSync("/run/secrets/DB_URL", "x")) ?? "written",
    token: process.env.API_TOKEN,
    others: Object.entries(process.env).some(([name, value]) => name !== "API_TOKEN" && value.includes("hunter2")),
  }));
}).listen(8080);
`;

/** The application as it began: one program, in the environment of which one of its secrets stands, too. */
async function firstImage(): Promise<Built> {
  const directory = join(place, "old");
  cpSync(join(repository, "examples/hello"), directory, {
    recursive: true,
    filter: (path) => !path.endsWith("/out"),
  });
  writeFileSync(join(directory, "app/server.mjs"), program);
  const lines =
    "  identity: ../identity.json\n  secrets: [DB_URL, { name: TOKEN, environment: API_TOKEN }]\n";
  appendFileSync(join(directory, "caisson.yaml"), lines);
  return prepare(await readSpec(directory), "development", {}, new Progress());
}

/** As it goes on: a compose file with two services, of which one is given secrets. */
async function nextImage(): Promise<Built> {
  const directory = join(place, "next");
  mkdirSync(join(directory, "app"), { recursive: true });
  writeFileSync(join(directory, "app/server.mjs"), program);
  const compose = `services:
  web:
    x-caisson: { node: ./app/server.mjs, socket: true, egress: none }
    user: "1000:1000"
    ports: ["8080:8080"]
    secrets: [DB_URL, TOKEN]
  other:
    x-caisson: { node: ./app/server.mjs, egress: none }
    user: "1000:1000"
    ports: ["8081:8080"]
secrets:
  DB_URL: { external: true }
  TOKEN: { external: true }
`;
  writeSpec(directory, "hello", compose, "  identity: ../identity.json\n");
  return prepare(await readSpec(directory), "development", {}, new Progress());
}

before(async () => {
  const keys = await owners.keys("a", "b", "c", "stop", "builder1", "builder2", "builder3");
  const logKey = await owners.run("log key log.example/drills --output log.key");
  const witnessKey = await owners.run("log key witness.example --witness --output witness.key");
  const witness = await owners.serve(`log witness --data seen --key witness.key --log ${logKey}`);
  logUrl = await owners.serve(`log serve --data log --key log.key --witness ${witness}=${witnessKey}`);
  writeFileSync(join(place, "policy"), `log ${logKey}\nwitness w ${witnessKey}\nquorum w\n`);
  const who = `--owner a b ${keys.c} --threshold 2 --stop stop --rebuilder builder1 builder2 builder3 --rebuilds 2`;
  id = await owners.run(`identity new --name drill ${who} --log-policy policy --output identity.json`);
  images = { old: await firstImage(), next: await nextImage() };
});
after(async () => {
  await owners.end();
  rmSync(place, { recursive: true, force: true });
});

/** The identity's files on a command line, in the generation of now. */
const whose = ({ generations }: Signing): string =>
  `--identity identity.json${generations === "" ? "" : ` --generation ${generations}`}`;

/** Who signs, in which generation; what of an image they have released already. */
interface Signing {
  generations: string;
  keys: string[];
  released: Map<Built, string>;
}

async function release(signing: Signing, image: Built, file: string, more = ""): Promise<void> {
  await owners.run(
    `release prepare ${whose(signing)} --image ${image.directory} --output ${file} ${more}`.trim(),
  );
  await owners.sign("release", file, ...signing.keys);
  await owners.run(`release publish ${file} ${whose(signing)} --log ${logUrl}`);
  signing.released.set(image, file);
}

/** Where a KMS is, and its identity. */
interface KmsPlace {
  url: string;
  identity: string;
}

/** A set of secrets, sealed and signed, whose values name it; it follows the last one that was logged. */
async function seal(
  kms: KmsPlace,
  names: readonly string[],
  signing: Signing,
  file: string,
): Promise<Envelope> {
  for (const name of names) writeFileSync(join(place, `${file}-${name}`), `${name} hunter2 ${file}`);
  const values = names.map((name) => `${name}=${file}-${name}`).join(" ");
  const after = sets.length === 0 ? "" : ` --after ${sets.at(-1)}`;
  await owners.run(
    `secrets seal ${whose(signing)} --kms ${kms.url} --kms-identity ${kms.identity}${after} --output ${file} --secret ${values}`,
  );
  await owners.sign("secrets", file, ...signing.keys);
  return envelope(file);
}

/** Brings a set of secrets in place of the one that the owners would seal next. */
type Bring = (kms: KmsPlace, names: readonly string[]) => Promise<Envelope>;

/** The owners of an image, for a session of it; `url` says where its KMS is. */
function ownersOf(image: Built, signing: Signing, url: () => string, bring?: Bring): ImageOwners {
  return {
    id,
    async release() {
      const file = signing.released.get(image)!;
      const bundle = `bundle-${performance.now()}`;
      const put = `--image ${image.directory} --log ${logUrl} --output ${bundle}`;
      await owners.run(`release bundle ${file} ${whose(signing)} ${put}`);
      return { number: Number(/\d+/.exec(file)![0]), bundle: JSON.parse(read(bundle)) as object };
    },
    async secrets(names, { kms }) {
      const at = { url: url(), identity: kms };
      if (bring !== undefined) return bring(at, names);
      const file = `s${sets.length + 1}`;
      const sealed = await seal(at, names, signing, file);
      sets.push(file);
      await owners.run(`release publish ${file} ${whose(signing)} --log ${logUrl}`);
      return sealed;
    },
  };
}

const state = (): string => `${images.old.directory}.state`;

async function start(image: Built, signing: Signing, hooks: SessionHooks, bring?: Bring): Promise<Session> {
  let kms = "";
  return startSession({
    image: image.directory,
    manifest: image.manifest,
    shape,
    references: await references(image.directory),
    state: state(),
    owners: ownersOf(image, signing, () => kms, bring),
    follow: { source: fetchLog(logUrl), policy: readTrustPolicy(read("policy")) },
    limitMs,
    hooks: {
      ...hooks,
      async kms(url) {
        kms = url;
        return { url, close: async () => {} };
      },
    },
  });
}

interface Seen {
  key: string;
  names: string[] | string;
  secret: string;
  mode: string;
  owner: boolean;
  writing: string;
  token?: string;
  others: boolean;
}

const ask = async (url: string): Promise<Seen> =>
  (await (await fetch(url, { signal: AbortSignal.timeout(30_000) })).json()) as Seen;

/** Boots until the application answers, judges its evidence from outside, and ends the machine. */
async function runs<Found>(
  image: Built,
  signing: Signing,
  hooks: SessionHooks,
  look: (session: Session) => Promise<Found>,
): Promise<Found> {
  const session = await start(image, signing, hooks);
  const log = () => readFileSync(join(session.state, "console.log"), "utf8");
  try {
    const ready = await session.vm.event(({ kind }) => kind === "ready");
    ok(ready?.kind === "ready");
    const report = await judgeFresh(await session.evidence(), {
      policy: readPolicy(session.policy),
      references: readReferences(session.references, "prediction"),
      collateral: session.collateral,
      now: new Date(),
    });
    equal(report.verdict, "accepted", report.codes.join());
    equal(report.release?.hash, hashOf(signing.released.get(image)!));
    const measured = session.vm.events.find(
      (event) => event.kind === "measured" && event.event === "secrets",
    );
    equal(measured?.kind === "measured" && measured.payload, hashOf(sets.at(-1)!));
    return await look(session);
  } catch (error) {
    // What the machine said last says why.
    process.stderr.write(log().slice(-4000));
    throw error;
  } finally {
    await session.stop();
    ok(!log().includes("hunter2"));
  }
}

/** Boots until the machine ends because its KMS gives it nothing; why. */
async function refused(
  image: Built,
  signing: Signing,
  hooks: SessionHooks = {},
  bring?: Bring,
): Promise<string> {
  const session = await start(image, signing, hooks, bring);
  try {
    await session.vm.ended;
    const failed = session.vm.events.findLast((event) => event.kind === "stage" && event.state === "failed");
    ok(!session.vm.events.some((event) => event.kind === "measured" && event.event === "system-ready"));
    return failed?.kind === "stage" && failed.state === "failed" ? failed.reason : "it ran";
  } finally {
    await session.stop();
  }
}

const byOld: Signing = { generations: "", keys: ["a", "b"], released: new Map() };
const byNew: Signing = { generations: "generation1", keys: ["b", "c"], released: new Map() };
let first: Seen;

/** The command that builds a release again from a copy of its sources. */
function rebuilding(
  file: string,
  key: string,
  image: Built,
  signing: Signing,
  output: string,
  change = "",
): string {
  const spec = join(image.directory, "../..");
  const copy = join(place, `copy-${output}`, basename(spec));
  cpSync(spec, copy, { recursive: true, filter: (path) => !path.endsWith("/out") });
  cpSync(join(place, "identity.json"), join(copy, "../identity.json"));
  if (change !== "") appendFileSync(join(copy, change), "// one line more\n");
  const options = `--spec ${copy} --manifest ${image.directory} ${whose(signing)} --output ${output}`;
  return owners.rebuild(file, key, `${options} --cache ${cacheDirectory(process.env)}`);
}

test("two rebuilders get the same image from its lock, and a third, who has another file, another one", async () => {
  await release(byOld, images.old, "r1");
  const judged = `release verify r1 ${whose(byOld)} --image ${images.old.directory} --log ${logUrl}`;
  await owners.refused(10, "rebuild/threshold", judged);
  const [said, differs] = await Promise.all([
    owners.run(rebuilding("r1", "builder1", images.old, byOld, "same1")),
    owners.refused(
      10,
      "rebuild/differs",
      rebuilding("r1", "builder3", images.old, byOld, "other", "app/server.mjs"),
    ),
  ]);
  match(
    said,
    new RegExp(`gave +${hash("sha256", readFileSync(join(images.old.directory, "manifest.json")))}`),
  );
  match(differs, /first differs rootfs\.img, in it \S*\/server\.mjs /);
  await owners.run(rebuilding("r1", "builder2", images.old, byOld, "same2"));
  await owners.run(`release publish same1 ${whose(byOld)} --log ${logUrl}`);
  await owners.refused(10, "rebuild/threshold", judged);
  await owners.run(`release publish same2 ${whose(byOld)} --log ${logUrl}`);
  match(await owners.run(judged), /^accepted: release 1 /);
});

/** What a relying party demands beyond the identity's rules. */
const demanding: SessionHooks = {
  policy: (policy) => ({
    ...policy,
    app: { identity: { id, requireRebuilds: 2, requireLog: true }, instanceId: "any" },
  }),
};

test("a released image has its key and its secrets, each for its user alone; a stranger judges it by a kit", async () => {
  first = await runs(images.old, byOld, demanding, async ({ url }) => {
    await owners.run(`publish ${images.old.directory} --out ${join(place, "kit")}`);
    const policy = JSON.parse(read("kit/policy.yaml")) as object;
    const mild = { ...policy, app: { identity: { id, requireLog: true }, instanceId: "any" } };
    writeFileSync(join(place, "mild.json"), JSON.stringify(mild));
    match(await owners.run(`verify --from ${url} --kit kit`), /^ACCEPTED /m);
    return ask(url!);
  });
  match(first.key, /^[0-9a-f]{64}$/);
  equal(first.secret, "DB_URL hunter2 s1");
  equal(first.token, "TOKEN hunter2 s1");
  deepEqual([first.mode, first.owner, first.others], ["400", true, false]);
  ok(["EACCES", "EROFS", "EPERM"].includes(first.writing), first.writing);
});

/** A KMS of somebody else, who knows the same application. */
async function otherKms(): Promise<KmsPlace> {
  const identity = await owners.run("kms init --data other-kms");
  const policies = join(state(), "policies");
  return {
    url: await owners.serve(`kms serve --data other-kms --policy-dir ${policies} --development`),
    identity,
  };
}

test("no set of secrets, an old, an unsigned, a surplus and a foreign one each stop the boot with their code", async () => {
  const brought = (bring: Bring) => refused(images.old, byOld, demanding, bring);
  // A newer set is logged, and the host keeps it to itself.
  const without: SessionHooks = { ...demanding, instance: ({ secrets: _, ...instance }) => instance };
  equal(await refused(images.old, byOld, without), "keys/denied/secrets/missing");
  deepEqual(sets, ["s1", "s2"]);
  equal(await brought(async () => envelope("s1")), "keys/denied/secrets/old");
  equal(await brought(async () => ({ ...envelope("s2"), signatures: [] })), "keys/denied/secrets/signature");
  const surplus = await brought((kms, names) => seal(kms, [...names, "EXTRA"], byOld, "surplus"));
  equal(surplus, "keys/denied/secrets/names");
  const foreign = await brought(async (_, names) => seal(await otherKms(), names, byOld, "foreign"));
  equal(foreign, "keys/denied/secrets/kms");
});

test("a stranger's image that passes every other check gets nothing: without a release, or with another image's", async () => {
  // It claims the identity, and its host is given no release of it.
  const stranger: Signing = { ...byOld, released: new Map([[images.next, "r1"]]) };
  const newest: Bring = async () => envelope(sets.at(-1)!);
  const bare: SessionHooks = { ...demanding, instance: ({ release: _, ...instance }) => instance };
  equal(await refused(images.next, stranger, bare, newest), "keys/denied/release/missing");
  equal(await refused(images.next, stranger, demanding, newest), "keys/denied/release/subject");
});

test("a rebuilder who got another image stops the release", async () => {
  await owners.run(`release publish other ${whose(byOld)} --log ${logUrl}`);
  equal(await refused(images.old, byOld, demanding), "keys/denied/rebuild/differs");
});

test("another image, released by other owners after a handover, reads what the old one derived", async () => {
  // As an administrator would have it tonight.
  cpSync(join(state(), "kms"), join(place, "backup"), { recursive: true });
  const rules = "--owner b c --threshold 2 --no-rebuilder";
  await owners.run(`identity rotate identity.json ${rules} --output generation1`);
  await owners.sign("identity", "generation1", "a", "b", "c");
  // The new owners renew what runs, then release what is to follow it.
  await release(byNew, images.old, "r2", "--after r1");
  await release(byNew, images.next, "r3", "--after r2 --minimum 3");
  await owners.run(rebuilding("r3", "builder1", images.next, byNew, "compose"));
  await runs(images.next, byNew, {}, async ({ ports }) => {
    const of = async (service: string) => {
      const { host } = ports.find((port) => port.service === service)!;
      return ask(`http://127.0.0.1:${host}/`);
    };
    const web = await of("web");
    equal(web.key, first.key);
    deepEqual([web.names, web.secret], [["DB_URL", "TOKEN"], `DB_URL hunter2 ${sets.at(-1)}`]);
    deepEqual([web.mode, web.owner, web.token, web.others], ["400", true, undefined, false]);
    ok(["EACCES", "EROFS", "EPERM"].includes(web.writing), web.writing);
    const other = await of("other");
    equal(other.secret, "ENOENT");
    ok(other.names === "ENOENT" || other.names.length === 0, String(other.names));
    // The first image's kit accepts what its owners released since, but for the rebuilds that its policy demands.
    const { host } = ports.find((port) => port.service === "web")!;
    const from = `verify --from http://127.0.0.1:${host}/`;
    match(
      await owners.run(
        `${from} --policy mild.json --image kit/references.json --collateral kit/collateral.json`,
      ),
      /^ACCEPTED /m,
    );
    match(await owners.says(10, `${from} --kit kit`), /because rebuild\/threshold\n/);
  });
});

/** A witness of the KMS's own release log. */
let releaseLog: { witness: string; policy: string };
const checkpoint = (): string => {
  const kms = join(state(), "kms");
  return `kms log checkpoint ${kms}/release-log.sqlite --data ${kms} --witness ${releaseLog.witness}`;
};

test("a witness has seen the KMS's release log, which goes on from there", async () => {
  const kms = join(state(), "kms");
  const asked = `kms log checkpoint ${kms}/release-log.sqlite --data ${kms} --json`;
  const { key } = JSON.parse(await owners.run(asked)) as { key: string };
  const own = await owners.run("log key kms-witness.example --witness --output kms-witness.key");
  const url = await owners.serve(`log witness --data seen-kms --key kms-witness.key --log ${key}`);
  releaseLog = { witness: `${url}=${own}`, policy: `log ${key}\nwitness w ${own}\nquorum w\n` };
  writeFileSync(join(place, "kms-policy"), releaseLog.policy);
  writeFileSync(join(place, "seen.note"), `${await owners.run(checkpoint())}\n`);
  match(await owners.run(await verifying()), /^whole: \d+ entries/);
});

/** Whether the KMS's log goes on from what its witness saw. */
async function verifying(): Promise<string> {
  const kms = join(state(), "kms");
  const identity = await owners.run(`kms identity --data ${kms}`);
  const seen = "--checkpoint seen.note --log-policy kms-policy";
  return `kms log verify ${kms}/release-log.sqlite --identity ${identity} ${seen}`;
}

test("the old image gets nothing, from a KMS that was put back to yesterday's copy either; its witness sees that", async () => {
  rmSync(join(state(), "kms"), { recursive: true });
  cpSync(join(place, "backup"), join(state(), "kms"), { recursive: true });
  await owners.refused(10, "log/head", await verifying());
  // No cosignature for it: exit code 75.
  match(await owners.says(75, checkpoint()), /^caisson\/kms\//);
  equal(await refused(images.old, byNew), "keys/denied/release/below-minimum");
});

test("a revoked release gets nothing as soon as the KMS has read its log", async () => {
  await owners.run(`release revoke ${whose(byNew)} --release 3 --output revoked --reason`, "a drill");
  await owners.sign("release", "revoked", "stop");
  await owners.run(`release publish revoked ${whose(byNew)} --log ${logUrl}`);
  equal(await refused(images.next, byNew), "keys/denied/release/revoked");
});
