// SPDX-License-Identifier: Apache-2.0
/** docs/kms-openapi.yaml names every route, and every status that the route gives. */
import { deepEqual, equal } from "node:assert/strict";
import { EventEmitter } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, Server } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import test, { type TestContext } from "node:test";
import { deriveAnchorKey } from "@caisson/protocol/derivation";
import { keyReleaseVersion, requestLimit } from "@caisson/protocol/key-release";
import { anchorRequest } from "@caisson/protocol/volumes";
import { writeBundle, writeEnvelope } from "@caisson/releases";
import { readYaml } from "@caisson/verify/policy-text";
import { Connections } from "../connections.ts";
import { KmsError, type KmsErrorCode } from "../errors.ts";
import { operatorEnvelope } from "../operator-request.ts";
import { createRootSecret, openRootSecret } from "../root-secret.ts";
import { openService, type Service } from "../service.ts";
import { askingFor } from "../testing/asking.ts";
import { directoryOf } from "../testing/context.ts";
import { Machine } from "../testing/machine.ts";
import { bundleOf, first, now, machine as owned } from "../testing/owned.ts";
import { Requests } from "./requests.ts";
import { type RouteOptions, routes, tableOf } from "./routes.ts";
import { readRequest } from "./table.ts";

const description = new URL("../../../../docs/kms-openapi.yaml", import.meta.url).pathname;
const { paths } = readYaml(readFileSync(description, "utf8")) as {
  paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
};
const described: ReadonlyMap<string, string[]> = new Map(
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(
      ([method, { responses }]) =>
        [`${method.toUpperCase()} ${path.replace("{app}", "*")}`, Object.keys(responses)] as const,
    ),
  ),
);

/** Told by its registers; of the one that has owners, what is known is in the store. */
const plain = new Machine(now);

const connections = new Connections(new EventEmitter() as Server, {
  total: 1,
  perAddress: 1,
  silentMs: 1000,
  bodies: 1,
});

async function setup(t: TestContext): Promise<{ service: Service; secret: Uint8Array }> {
  const [data, policies] = [directoryOf(t), directoryOf(t)];
  createRootSecret(data);
  const rules = { app: { identity: { id: owned.app } } };
  writeFileSync(join(policies, "owned.json"), JSON.stringify(owned.policyFile(rules)));
  writeFileSync(join(policies, "plain.json"), JSON.stringify(plain.policyFile()));
  const key = plain.app.padEnd(64, "0");
  const operators = { keys: [{ type: "ed25519", key } as const], threshold: 1 };
  const service = await openService({ data, policies, operators, development: true, now: () => now });
  t.after(() => service.close());
  return { service, secret: openRootSecret(data, { development: true }) };
}

/** What asks for a route in every way that is not the same to it: path and body. */
async function asked(route: string, service: Service, secret: Uint8Array): Promise<[string, string?][]> {
  const [method, path] = route.split(" ") as [string, string];
  if (method === "GET") {
    const nonce = `?nonce=${"00".repeat(32)}`;
    const last = [owned.app, plain.app, "unknown"];
    return path.endsWith("*")
      ? last.map((one) => [path.replace("*", one)])
      : [[path], [path + nonce], [`${path}?nonce=0`], [`${path}?after=${plain.app}`], [`${path}?after=0`]];
  }
  const kms = service.context.identity.publicKey.toHex();
  const release = async (machine: Machine, changes: object = {}) =>
    JSON.stringify(
      (await askingFor(machine, { ...machine.booted(kms), ...changes }, service.context)).request,
    );
  const volume = "11".repeat(32);
  const of = { volume, owner: plain.app, seed: "22".repeat(20), name: "data", epoch: "1" };
  const request = operatorEnvelope({
    version: "caisson/kms-request/v1",
    action: "policy/remove",
    app: plain.app,
    kms,
    expires: now + 1e6,
    replaces: 0,
  });
  const bodies: Record<string, string[]> = {
    "/v1/hello": [JSON.stringify({ version: keyReleaseVersion })],
    "/v1/release": [await release(plain), await release(owned, { release: writeBundle(bundleOf(first)) })],
    "/v1/volume/anchor": [
      JSON.stringify(anchorRequest(deriveAnchorKey(secret, Uint8Array.fromHex(volume), 1n), of, 1n << 40n)),
    ],
    "/v1/admin": [JSON.stringify(writeEnvelope(request))],
  };
  return ["{}", "x".repeat(requestLimit + 1), ...bodies[path]!].map((body) => [path, body]);
}

/** Statuses that this service gave, by route. */
async function statuses(
  { service, secret }: Awaited<ReturnType<typeof setup>>,
  options: RouteOptions,
  more = 1,
): Promise<Map<string, Set<number>>> {
  const answer = routes(service, options, connections);
  const found = new Map<string, Set<number>>();
  for (const route of described.keys()) {
    const seen = new Set<number>();
    for (const [url, body] of await asked(route, service, secret)) {
      const incoming = () =>
        Object.assign(Readable.from(body === undefined ? [] : [Buffer.from(body)]), {
          method: route.split(" ")[0],
          url,
          headers: {},
          socket: { remoteAddress: "127.0.0.1" },
        }) as unknown as IncomingMessage;
      const answers = await Promise.all(Array.from({ length: more }, () => answer(readRequest(incoming()))));
      for (const { status } of answers) seen.add(status);
    }
    found.set(route, seen);
  }
  return found;
}

const freely = { perAddress: { perSecond: 1e6, burst: 1e6 } };
const failing = (code: KmsErrorCode) => (service: Service) =>
  service.store.end(new KmsError(code, "the database does not do what it should"));

/** What a KMS may be like, so that each status is seen that a route gives. */
const weathers: { options: RouteOptions; change?: (service: Service) => void; more?: number }[] = [
  { options: freely },
  { options: { ...freely, ownApp: plain.app, attest: async () => ({}) } },
  { options: { ...freely, attest: () => Promise.reject(new KmsError("kms/guest", "gone")) } },
  { options: { ...freely, attest: () => new Promise((done) => setTimeout(done, 50, {})) }, more: 5 },
  { options: freely, change: failing("log/unavailable") },
  { options: freely, change: failing("log/rows") },
  { options: { perAddress: { perSecond: 1, burst: 0 } }, more: 401 },
];

test("the description has the routes of the table, and no others", async (t) => {
  const { service } = await setup(t);
  const table = tableOf(service, new Requests(service, connections), {});
  deepEqual([...described.keys()].sort(), Object.keys(table).sort() as string[]);
});

test("each status that a route gives is described, and what is described is given", async (t) => {
  const given = new Map([...described.keys()].map((route) => [route, new Set<number>()]));
  for (const { options, change, more } of weathers) {
    const kms = await setup(t);
    change?.(kms.service);
    for (const [route, seen] of await statuses(kms, options, more)) {
      for (const status of seen) given.get(route)!.add(status);
    }
  }
  // What changes something needs more than a request: operators' signatures, shares, an opened volume (their own tests).
  const elsewhere: Record<string, number[]> = {
    "POST /v1/admin": [200, 409],
    "POST /v1/volume/anchor": [200],
    "GET /v1/shares": [200],
    "GET /v1/policies/*": [200],
  };
  for (const [route, seen] of given) {
    const all = [...seen, ...(elsewhere[route] ?? [])].sort((a, b) => a - b);
    deepEqual(all.map(String), described.get(route)!.toSorted(), route);
  }
  equal(given.size > 10, true);
});
