// SPDX-License-Identifier: Apache-2.0
/** A guest that runs `examples/kms`, without a machine: its evidence, and what its socket answers. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as bodyOf } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { deriveApplicationKey } from "@caisson/protocol/derivation";
import { keyProvider } from "@caisson/protocol/identity";
import { writeBundle, writeEnvelope } from "@caisson/releases";
import { hashOf, Owners } from "@caisson/releases/testing/owners";
import { signedBy } from "@caisson/releases/testing/signers";
import { reportData } from "@caisson/verify/report-data";
import { type GuestKmsOptions, startGuestKms } from "../guest.ts";
import { type OperatorRequest, operatorEnvelope } from "../operator-request.ts";
import type { Kms } from "../server.ts";
import { Machine } from "./machine.ts";

export const now = Date.now();
export const owners = new Owners(now, "kms");
export const machine = new Machine(now, "kms", 0, { identity: owners.id });
/** Registers of another image. */
export const altered = { rtmr1: "ff".repeat(48) };
export const policy = machine.policyFile({ app: { identity: { id: owners.id }, instanceId: "any" } })
  .policy as object;
export const release = writeBundle(
  owners.bundle(owners.release([hashOf(machine.manifest), hashOf(machine.description)]), machine.manifest),
);

/** Evidence of a machine that has `provider` (hexadecimal; none when left out), over an application's nonce. */
export async function evidenceOver(nonce: Uint8Array, provider?: string, td: object = {}) {
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

/** Signs the policy by which this KMS gives its replicas their keys; the status that it answers. */
export async function admitReplicas({ url, identityKey }: Pick<Kms, "url" | "identityKey">): Promise<number> {
  const asked: OperatorRequest = {
    version: "caisson/kms-request/v1",
    action: "policy/set",
    kms: identityKey,
    app: owners.id,
    replaces: 0,
    expires: Date.now() + 600_000,
    policy: JSON.stringify({ version: "caisson/kms-policy/v1", app: owners.id, keyVersion: 1, policy }),
  };
  const body = JSON.stringify(writeEnvelope(signedBy(operatorEnvelope(asked), owners.a)));
  return (await fetch(new URL("/v1/admin", url), { method: "POST", body })).status;
}

/** The socket of a guest: what `/run/caisson.sock` answers in one that runs `machine`. */
export async function guestSocket(
  t: TestContext,
  guest: { kms?: { url: string; identity: string }; td?: object },
) {
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
      "/checkpoint": () => {
        if (checkpoints.away) throw new Error("no anchor");
        checkpoints.number += 1;
        return { generations: {} };
      },
      "/evidence": () => evidenceOver(Uint8Array.fromHex(body.nonce!), guest.kms?.identity, guest.td),
    };
    try {
      response.end(JSON.stringify(await answers[request.url!]!()));
    } catch (error) {
      response.writeHead(500).end((error as { denial?: string }).denial);
    }
  };
  const checkpoints = { number: 0, away: false };
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
  const start = async (port = 0, more: Partial<GuestKmsOptions> = {}) => {
    const kms = await startGuestKms({ files, data, databases: [], host: "127.0.0.1", port, socket, ...more });
    t.after(() => kms.close());
    return kms;
  };
  return { start, data, files, checkpoints };
}
