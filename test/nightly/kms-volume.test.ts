// SPDX-License-Identifier: Apache-2.0
/**
 * A KMS as a guest that keeps root secret and log on a persistent volume, which another KMS opens (here the host's): both
 * outlive a power cut, are nowhere readable on the host's disk, and cannot be turned back; no key leaves whose entry the
 * other KMS has not anchored; and an application gets its keys from it.
 */
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { readSpec } from "@caisson/image";
import { kmsIdentity, readOnlySqlite, verifyReleaseLog } from "@caisson/kms";
import { Machine } from "@caisson/kms/testing/machine";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { developmentPolicy } from "@caisson/machine/development-policy";
import { applicationId } from "@caisson/protocol/guest-config";
import { simulatedPlatform } from "@caisson/simulated/simulated-platform";
import { decryptDisk, restoreFiles } from "../support/btrfs-check.ts";
import { image, references } from "../support/image.ts";
import {
  answering,
  fromGuest,
  kmsRules,
  onVolume,
  policyFile,
  setPolicy,
  startUnder,
  verifyKms,
  writeKms,
} from "../support/kms-guest.ts";
import { volumeKeys } from "../support/volume-disk.ts";
import { type Outcome, VolumeHost } from "../support/volume-host.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-kms-volume-"));
const platform = simulatedPlatform(Date.now());
const machine = new Machine(Date.now());
let host: VolumeHost;
after(async () => {
  await host?.remove();
  rmSync(place, { recursive: true });
});

/** A line of the program: who may write above its data, which a production KMS refuses where it is somebody else. */
const above = `
{
const { statSync } = process.getBuiltinModule("node:fs");
const open = ["/", "/data"].map((path) => statSync(path)).filter(({ uid, mode }) => (mode & 0o22) !== 0 || ![0, process.getuid()].includes(uid));
console.log("open to others: " + open.length);
}
`;
let owners: DevelopmentOwners;
before(async () => {
  owners = await DevelopmentOwners.open(join(place, "owners"), "kms");
  await writeKms(join(place, "kms"), {}, owners.identity, onVolume);
  appendFileSync(join(place, "kms/app/main.mjs"), above);
  host = new VolumeHost(await prepare(await readSpec(join(place, "kms")), "development", {}, new Progress()));
  host.owners = owners;
});

/** Which guests may be this KMS, and which KMS opens their volume: `caisson kms verify`. */
async function verify({ session }: Outcome, keyProviders?: readonly object[]) {
  const file = join(place, "policy.json");
  const more = { volumes: { names: ["data"] }, ...(keyProviders && { keyProviders }) };
  writeFileSync(file, JSON.stringify(kmsRules(owners.id, platform.root, more)));
  return verifyKms(session.url!, "--policy", file);
}

/** An exchange with it, of a machine that only the policy of this test accepts; the application's key. */
async function keyOf({ session }: Outcome, identity: string): Promise<string> {
  const state = machine.booted(identity);
  const { applicationKey } = await requestKeys({
    post: httpPost(session.url!, 120_000),
    identityKey: Uint8Array.fromHex(identity),
    evidence: (bound) => machine.evidence(state, bound),
    now: Date.now,
    toleranceMs: 60_000,
  });
  return applicationKey.toHex();
}

async function started(outcome: Promise<Outcome>): Promise<Outcome> {
  const boot = await outcome;
  equal(boot.reason, "ready", boot.message);
  return boot;
}

const entries = async ({ session }: Outcome): Promise<number> =>
  ((await (await fetch(`${session.url}v1/log/head`)).json()) as { sequence: number }).sequence;

let upstream: { name: "kms"; id: string };
let identity: string;
let key: string;

test("it makes its root secret on the volume; who verifies names the KMS that opens it", async () => {
  const boot = await started(host.boot());
  upstream = { name: "kms", id: kmsIdentity(join(host.state, "kms")) };
  const { status, answer } = await verify(boot, [upstream]);
  equal(answer.verdict, "accepted", JSON.stringify(answer));
  identity = answer.kms.identityKey;
  deepEqual([status, answer.kms], [0, { identityKey: identity, first: false, upstream: upstream.id }]);
  notEqual(identity, upstream.id);
  ok(await boot.session.vm.event((event) => event.kind === "app" && event.line === "open to others: 0"));
  const unnamed = await verify(boot);
  deepEqual([unnamed.status, unnamed.answer.codes], [10, ["keys/key-provider"]]);
  await setPolicy(boot.session.url!, identity, machine.policyFile() as { app: string });
  key = await keyOf(boot, identity);

  host.anchors = false;
  const denied = await keyOf(boot, identity).then(
    () => undefined,
    (error: Error & { denial?: string }) => error,
  );
  equal(denied?.denial, "log/unavailable", `${denied?.message}`);
  host.anchors = true;
  equal(await keyOf(boot, identity), key);
  await host.pull(boot);
  host.keep("disk", "early");
});

test("after a power cut it is the same KMS, with its policies and its log; turned back, its volume does not open", async () => {
  const boot = await started(host.boot());
  const { answer } = await verify(boot, [upstream]);
  equal(answer.kms.identityKey, identity, JSON.stringify(answer));
  equal(await keyOf(boot, identity), key);
  const before = await entries(boot);
  ok(before >= 5, `${before} entries`);
  await host.pull(boot);
  host.keep("disk", "newest");

  host.putBack("disk", "early");
  const turnedBack = await host.boot();
  equal(turnedBack.reason, "volume/stale", turnedBack.message);
  host.putBack("disk", "newest");
  const again = await started(host.boot());
  ok((await entries(again)) >= before, "an entry is lost");

  const built = await image();
  const values = await references(built.directory);
  const policy = { ...developmentPolicy(built.manifest, values, platform.root), references: [values] };
  const app = applicationId(built.manifest.guest).toHex();
  await setPolicy(again.session.url!, identity, policyFile(app, policy));
  const kms = { url: fromGuest(again.session.url!), identity };
  const session = await startUnder(kms, built, { state: join(place, "application.state") });
  try {
    const answer = await fetch(await answering(session), { headers: { accept: "application/json" } });
    equal(((await answer.json()) as { keyProvider: string }).keyProvider, identity);
  } finally {
    await session.stop();
  }
  await again.session.stop();
});

test("the host's disk has neither the root secret nor the log; decrypted it has both, and the log is whole", async () => {
  const [plain, files] = [join(place, "plain"), join(place, "restored")];
  decryptDisk(host.disk, await volumeKeys(host.state), plain);
  mkdirSync(files);
  const said = await restoreFiles(plain, files);
  const found = readdirSync(files, { recursive: true, encoding: "utf8" });
  const data = found.find((path) => path.endsWith("/root-secret"))?.replace("/root-secret", "");
  ok(data !== undefined, `${said}\n${found.join("\n")}`);
  const secret = readFileSync(join(files, data, "root-secret"));
  const [sealed, open] = [readFileSync(host.disk), readFileSync(plain)];
  for (const text of [secret, Buffer.from("SQLite format 3\0"), Buffer.from("root-secret")]) {
    deepEqual([sealed.includes(text), open.includes(text)], [false, true], text.toString("latin1"));
  }
  const outcomes: string[] = [];
  const log = readOnlySqlite(join(files, data, "release-log.sqlite"));
  const report = await verifyReleaseLog(log, { identity }, (_, entry) => void outcomes.push(entry.reason));
  equal(report.identity, identity);
  match(outcomes.join(), /operators\/begin.*policy\/set.*policy\/set/);
  // Asked twice at least, once more after the cut, and the application. One that was denied may have its entry.
  ok(report.released >= 4, `${report.released} releases`);
});
