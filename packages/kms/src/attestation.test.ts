// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as bodyOf } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { keyProvider } from "@caisson/protocol/identity";
import { writeBundle } from "@caisson/releases";
import { hashOf, Owners } from "@caisson/releases/testing/owners";
import { readPolicy } from "@caisson/verify";
import { releaseJudge } from "@caisson/verify/releases";
import { reportData } from "@caisson/verify/report-data";
import fc from "fast-check";
import { askKms, attestation, attestationNonce, judgeKms } from "./attestation.ts";
import { checkGiver, startGuestKms } from "./guest.ts";
import { dataFiles, openRootSecret } from "./root-secret.ts";
import { Machine } from "./testing/machine.ts";

const now = Date.now();
const owners = new Owners(now, "kms");
const machine = new Machine(now, "kms", 0, { identity: owners.id });
/** Registers of another image. */
const altered = { rtmr1: "ff".repeat(48) };
const policy = machine.policyFile({ app: { identity: { id: owners.id }, instanceId: "any" } })
  .policy as object;
const release = writeBundle(
  owners.bundle(owners.release([hashOf(machine.manifest), hashOf(machine.description)]), machine.manifest),
);

/** Evidence of a machine that has `provider` (hexadecimal; none when left out), over an application's nonce. */
async function evidenceOver(nonce: Uint8Array, provider?: string, td: object = {}) {
  const state = machine.booted("00".repeat(32));
  state.events.splice(-1, 1, {
    name: "key-provider",
    payload: keyProvider(provider === undefined ? undefined : Uint8Array.fromHex(provider)),
  });
  state.events.push({ name: "system-ready", payload: new Uint8Array() });
  state.release = release;
  Object.assign(state.td, td);
  const evidence = await machine.evidence(state, await reportData("caisson/app/v1", { nonce }));
  return { ...evidence, reportData: { scheme: "caisson/app/v1", fields: { nonce: nonce.toHex() } } };
}

const identity = new Uint8Array(32).fill(7);
const nonce = new Uint8Array(32).fill(9);
const judgement = { policy: readPolicy(policy), now: new Date(now), releases: releaseJudge() };

async function judged(change: { provider?: string; nonce?: Uint8Array; as?: Uint8Array; td?: object } = {}) {
  const bound = attestationNonce(change.nonce ?? nonce, identity);
  const evidence = await evidenceOver(bound, change.provider, change.td);
  const document = attestation(change.as ?? identity, evidence);
  return judgeKms(new TextEncoder().encode(JSON.stringify(document)), nonce, judgement);
}

test("a KMS in a released guest is accepted: the first, and one that joined itself", async () => {
  const first = await judged();
  deepEqual([first.report.codes, first.first, first.identityKey], [[], true, identity.toHex()]);
  const second = await judged({ provider: identity.toHex() });
  deepEqual([second.report.codes, second.first], [[], false]);
});

for (const { name, change, code } of [
  { name: "that joined another KMS", change: { provider: "11".repeat(32) }, code: "keys/key-provider" },
  {
    name: "that answers an older nonce",
    change: { nonce: new Uint8Array(32) },
    code: "report-data/nonce",
  },
  {
    name: "that shows another's evidence as its own",
    change: { as: new Uint8Array(32).fill(8) },
    code: "report-data/nonce",
  },
  { name: "of an image that was not released", change: { td: altered }, code: "release/subject" },
]) {
  test(`no KMS ${name}`, async () => {
    const { report } = await judged(change);
    equal(report.verdict, "rejected");
    ok((report.codes as string[]).includes(code), report.codes.join());
  });
}

test("what is not an attestation is refused by name, wherever it was cut or altered", async () => {
  const text = JSON.stringify(attestation(identity, await evidenceOver(attestationNonce(nonce, identity))));
  const bytes = new TextEncoder().encode(text);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), async (end) => {
      await rejects(judgeKms(bytes.subarray(0, end), nonce, judgement), { code: "kms/attestation" });
    }),
    { numRuns: 50 },
  );
  for (const wrong of ["[]", "null", '{"version":"x"}', text.replace(identity.toHex(), "zz".repeat(32))]) {
    const asked = judgeKms(new TextEncoder().encode(wrong), nonce, judgement);
    await rejects(asked, { code: "kms/attestation" });
  }
});

test("a giver is the KMS that was measured, in a guest that is accepted", async () => {
  checkGiver(await judged(), identity.toHex(), "http://giver");
  const [other, rejected] = [await judged(), await judged({ td: altered })];
  throws(() => checkGiver(other, "11".repeat(32), "http://giver"), { code: "kms/giver" });
  throws(() => checkGiver(rejected, identity.toHex(), "http://giver"), { code: "kms/giver" });
});

/** The socket of a guest: what `/run/caisson.sock` answers in one that runs `machine`. */
async function guestSocket(t: TestContext, guest: { kms?: { url: string; identity: string }; td?: object }) {
  const place = mkdtempSync(join(tmpdir(), "caisson-kms-guest-"));
  const socket = join(place, "guest.sock");
  const key = async (path: string, purpose: string) => {
    const state = machine.booted(guest.kms!.identity);
    state.release = release;
    const { applicationKey } = await requestKeys({
      post: httpPost(guest.kms!.url, 10_000),
      identityKey: Uint8Array.fromHex(guest.kms!.identity),
      evidence: (bound) => machine.evidence(state, bound),
      now: Date.now,
      toleranceMs: 5000,
    });
    return { key: deriveApplicationKey(applicationKey, path, purpose).toHex() };
  };
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const asked = await bodyOf(request);
    const body = (asked === "" ? {} : JSON.parse(asked)) as Record<string, string>;
    const answers: Record<string, () => unknown> = {
      "/info": () => ({
        name: "kms",
        flavour: "development",
        appId: owners.id,
        keyProvider: guest.kms?.identity ?? null,
        keyProviderUrl: guest.kms?.url ?? null,
      }),
      "/key": () => key(body.path!, body.purpose!),
      "/evidence": () => evidenceOver(Uint8Array.fromHex(body.nonce!), guest.kms?.identity, guest.td),
    };
    try {
      response.end(JSON.stringify(await answers[request.url!]!()));
    } catch (error) {
      response.writeHead(500).end((error as { denial?: string }).denial);
    }
  };
  const server = createServer((...exchange) => void answer(...exchange)).listen(socket);
  const files = join(place, "files");
  mkdirSync(files);
  writeFileSync(join(files, "peers.json"), JSON.stringify(policy));
  writeFileSync(join(files, "operators.json"), JSON.stringify({ keys: [owners.a.publicKey], threshold: 1 }));
  t.after(() => {
    server.close();
    rmSync(place, { recursive: true });
  });
  const data = join(place, "data");
  const start = async () => {
    const kms = await startGuestKms({ files, data, databases: [], host: "127.0.0.1", port: 0, socket });
    t.after(() => kms.close());
    return kms;
  };
  return { start, data, files };
}

test("a guest without a key provider makes the root secret, and gives it to nobody without a policy", async (t) => {
  const first = await guestSocket(t, {});
  const kms = await first.start();
  equal(readFileSync(join(first.data, dataFiles.rootSecret)).length, 32);
  const shown = await askKms(kms.url, judgement);
  deepEqual([shown.report.codes, shown.first, shown.identityKey], [[], true, kms.identityKey]);
  // It has no policy for its replicas yet: judged and accepted, and then it gives nothing.
  const replica = await guestSocket(t, { kms: { url: kms.url, identity: kms.identityKey } });
  await rejects(replica.start(), { code: "kms/guest", message: /app\/unknown/ });
  throws(() => openRootSecret(replica.data, { development: true }), { code: "root-secret/missing" });
});

test("nothing is taken from a KMS that is not in such a guest", async (t) => {
  const other = await (await guestSocket(t, { td: altered })).start();
  const replica = await guestSocket(t, { kms: { url: other.url, identity: other.identityKey } });
  await rejects(replica.start(), { code: "kms/giver" });
  throws(() => openRootSecret(replica.data, { development: true }), { code: "root-secret/missing" });
  const pretended = await guestSocket(t, { kms: { url: other.url, identity: "22".repeat(32) } });
  await rejects(pretended.start(), { code: "kms/giver" });
});

test("an image says which guests are replicas: its own application's", async (t) => {
  const guest = await guestSocket(t, { kms: { url: "http://127.0.0.1:9", identity: "22".repeat(32) } });
  writeFileSync(join(guest.files, "peers.json"), JSON.stringify(machine.policyFile().policy));
  await rejects(guest.start(), { code: "policy/malformed" });
  rmSync(join(guest.files, "peers.json"));
  await rejects(guest.start(), { code: "policy/none" });
});

test("outside of a guest it says so", async () => {
  const options = { files: "/nowhere", data: "/nowhere", databases: [], host: "127.0.0.1", port: 0 };
  await rejects(startGuestKms({ ...options, socket: "/nowhere/guest.sock" }), { code: "kms/guest" });
});
