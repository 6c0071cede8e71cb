// SPDX-License-Identifier: Apache-2.0
/** An application with an identity, its machine, and a KMS that judges what its owners signed. */
import { ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { secretsContext } from "@caisson/protocol/key-release";
import { type Bundle, type Envelope, writeBundle, writeEnvelope } from "@caisson/releases";
import { Owners } from "@caisson/releases/testing/owners";
import { Applications, type LogView } from "../applications.ts";
import type { Policies } from "../policy-set.ts";
import { releaseKeys } from "../release.ts";
import { Roots } from "../roots.ts";
import type { LogEntry } from "../store/entries.ts";
import { sqlite } from "../store/sqlite.ts";
import { type Commit, type Committed, openStore, type Store, storeKeys } from "../store/store.ts";
import { askingFor, isSigned, keysIn, unseal } from "./asking.ts";
import { directoryOf, policiesOf, type Recorded, releaseContext } from "./context.ts";
import { Machine } from "./machine.ts";

export const now = Date.parse("2026-06-01T12:00:00Z");
/** The root secret of the KMS. */
export const secret = new Uint8Array(32).map((_, i) => i);
export const identity = storeKeys(secret).identity;
/** The identity key of the KMS, hex. */
export const kms = identity.publicKey.toHex();
export const owners = new Owners(now);
export const machine = new Machine(now, "payments", 0, { identity: owners.id });

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
/** What a release of this machine's image names. */
export const subjectsOf = (one: Machine): [string, string] => [sha256(one.manifest), sha256(one.description)];
export const subjects = subjectsOf(machine);
/** Its first release. */
export const first = owners.release(subjects);
/** Owners of another application, who have no say in this one. */
export const stranger = new Owners(now, "stranger");

export const bundleOf = (release: Envelope, changes: Partial<Bundle> = {}, of = machine) =>
  owners.bundle(release, of.manifest, changes);

/** Policies of this machine's identity, with more rules about its releases. */
export const ownersPolicies = (t: TestContext, of: Machine, rules: object = {}): Policies =>
  policiesOf(t, of.policyFile({ app: { identity: { id: of.app, ...rules } } }), kms);

interface With {
  /** Of a store that another KMS left. */
  path?: string;
  log?: LogView;
  clock?: () => number;
}

/** A store in a file of its own, or what another KMS left in this one. */
export async function storeOf(t: TestContext, path = join(directoryOf(t), "store.sqlite")): Promise<Store> {
  const store = await openStore(sqlite(path), storeKeys(secret));
  t.after(() => store.close());
  return store;
}

/** A KMS with a store, and the entries that it wrote. */
export async function setup(
  t: TestContext,
  policies: Policies,
  { path, log, clock = () => now }: With = {},
): Promise<Recorded> {
  const entries: LogEntry[] = [];
  const store = await storeOf(t, path);
  const commit = async (change: Commit): Promise<Committed> => {
    const outcome = await store.commit(change);
    if (outcome === "done" && change.entry !== undefined) entries.push({ ...change.entry });
    return outcome;
  };
  const context = releaseContext(secret, {
    roots: new Roots(secret, store),
    identity,
    policies,
    store: { commit },
    applications: new Applications(store, log),
    now: clock,
  });
  return { context, log: entries };
}

export interface Given {
  of?: Machine;
  bundle?: Bundle;
  secrets?: Envelope;
}

/** One request of a machine in good order but for what is given; the answer, and what its seals hold. */
export async function ask(
  { context }: Recorded,
  { of = machine, bundle, secrets }: Given,
): Promise<{
  code?: string;
  message?: string;
  key?: string;
  secrets?: Record<string, string>;
  hash?: string;
}> {
  const state = { ...of.booted(kms), ...(bundle !== undefined && { release: writeBundle(bundle) }) };
  const { request, exchange, pair } = await askingFor(of, state, context);
  const given = { ...request, ...(secrets !== undefined && { secrets: writeEnvelope(secrets) }) };
  const { answer } = await releaseKeys(context, given);
  ok(await isSigned(answer, exchange));
  if (answer.outcome === "denied") return { code: answer.code, message: answer.message };
  const key = keysIn(answer, { exchange, pair }).subarray(0, 32).toHex();
  if (answer.secrets === undefined) return { key };
  const { hash } = answer.secrets;
  const opened = unseal(pair, answer.secrets, secretsContext(exchange, answer, hash));
  return { key, secrets: JSON.parse(new TextDecoder().decode(opened)) as Record<string, string>, hash };
}
