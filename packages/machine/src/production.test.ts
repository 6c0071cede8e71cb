// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { hash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Manifest } from "@caisson/image";
import { loadPolicies } from "@caisson/kms/policies";
import { decodeInstance } from "@caisson/protocol/instance";
import { plainService } from "@caisson/protocol/testing/service";
import { reservedSize } from "@caisson/protocol/volumes";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { readPolicy, readReferences } from "@caisson/verify";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { parse } from "yaml";
import { mrConfigId, prepareProduction } from "./production.ts";
import { instanceSeed } from "./state.ts";

const file = { file: "file" };
const manifest = {
  name: "hello",
  kernel: file,
  rootfs: file,
  firmware: { tdx: { code: file } },
  commandLine: "console=ttyS0",
  guest: {
    app: { name: "hello", services: { hello: plainService() }, networks: {}, volumes: {} },
    time: { secure_time: true },
  },
} as unknown as Manifest;
const identity = "ab".repeat(32);
const kms = { url: "http://10.0.0.1:7700", identity };
const shape = { vcpus: 1, memory: 512 };
const register = (digit: string) => digit.repeat(96);
const references = ["single-pass", "two-pass"].map((name, i) => ({
  name,
  registers: { mrtd: register(String(i)), rtmr1: register("b"), rtmr2: register("c") },
  rtmr0Events: [register("d"), "smbios"],
}));

function image(t: TestContext): string {
  const directory = temporaryDirectory("production", t);
  return join(directory, "image");
}

test("an image's instance is the same at each start, and its seed is the owner's alone", (t) => {
  const directory = image(t);
  const start = () => {
    const { arguments: options } = prepareProduction({
      image: directory,
      manifest,
      shape,
      references,
      port: 8080,
    });
    const device = options.find((option) => option.includes("id=instance"))!.split("file=")[1]!;
    return decodeInstance(readFileSync(device));
  };
  const first = start();
  match(first.seed, /^[0-9a-f]{40}$/);
  equal(first.kms, undefined);
  equal(start().seed, first.seed);
  equal(instanceSeed(`${directory}.state`), first.seed);
  equal(statSync(join(`${directory}.state`, "instance-seed")).mode & 0o777, 0o600);
});

test("collateral for the host is in the instance document, and until when is said", (t) => {
  const directory = image(t);
  const { collateral } = mint(hierarchy("production", { issued: new Date(0), expires: new Date(1e12) }));
  const options = { image: directory, manifest, shape, references };
  const { collateralUntil } = prepareProduction({
    ...options,
    collateral: { document: collateral, validUntil: 1e12 },
  });
  const device = () => decodeInstance(readFileSync(join(`${directory}.state`, "instance.img")));
  deepEqual([device().collateral, collateralUntil], [collateral, "2001-09-09T01:46:40.000Z"]);
  equal(prepareProduction(options).collateralUntil, undefined);
  equal(device().collateral, undefined);
});

test("what is written for relying party and KMS can be read by them, and says the same of the machine", (t) => {
  const written = prepareProduction({ image: image(t), manifest, shape, references, kms });
  const policy = readPolicy(parse(readFileSync(written.policy, "utf8")));
  deepEqual(policy.platforms, ["tdx"]);
  deepEqual(policy.td?.mrConfigId, [written.mrConfigId]);
  equal(policy.registers?.rtmr0, "by-event");
  deepEqual(policy.keyProviders, [{ name: "kms", id: identity }]);
  const read = readReferences(JSON.parse(readFileSync(written.references, "utf8")), "references");
  deepEqual(
    read.map(({ registers, rtmr0Events, platform }) => ({ registers, rtmr0Events, platform })),
    references.map(({ registers, rtmr0Events }) => ({ registers, rtmr0Events, platform: "tdx" })),
  );
  const policies = loadPolicies(written.kmsPolicies!, identity, false);
  const [released] = [...policies.apps()].map((app) => policies.get(app));
  deepEqual(released!.policy.td, policy.td);
  deepEqual(released!.policy.app?.id, policy.app?.id);
  deepEqual(
    released!.references.map(({ registers }) => registers),
    references.map(({ registers }) => registers),
  );
  deepEqual(written.open, []);
});

test("what its owners give it is in the instance document, and what they have not given is named", (t) => {
  const directory = image(t);
  const service = { ...plainService(), secrets: [{ name: "TOKEN" }] };
  const app = { ...manifest.guest.app, identity: "7a".repeat(32), services: { hello: service } };
  const released = { ...manifest, guest: { ...manifest.guest, app } } as Manifest;
  const prepare = (given?: { release?: unknown; secrets?: unknown }) => {
    const options = { image: directory, manifest: released, shape, references, kms };
    const { missing } = prepareProduction({ ...options, ...(given && { given }) });
    const { release, secrets } = decodeInstance(readFileSync(join(`${directory}.state`, "instance.img")));
    return { missing, given: { release, secrets } };
  };
  deepEqual(prepare().missing, ["release", "secrets"]);
  const given = { release: { a: 1 }, secrets: { b: 2 } };
  deepEqual(prepare(given), { missing: [], given });
  deepEqual(prepareProduction({ image: directory, manifest, shape, references, kms }).missing, []);
});

test("persistent volumes are disks of QEMU's command and of libvirt's domain, made sparse, and the policy names them", (t) => {
  const directory = image(t);
  const app = {
    ...manifest.guest.app,
    volumes: Object.fromEntries(["b", "a"].map((name) => [name, { persistent: true, size: 2 ** 28 }])),
  };
  const own = { ...manifest, guest: { ...manifest.guest, app } } as unknown as Manifest;
  const { arguments: options, domain, policy } = prepareProduction({ image: directory, manifest: own, shape, references }); // biome-ignore format: one line
  const files = ["a", "b"].map((name) => join(`${directory}.state`, "volumes", `${name}.img`));
  for (const [index, path] of files.entries()) {
    const { size, blocks } = statSync(path);
    deepEqual([size, blocks], [2 ** 28 + reservedSize, 0]);
    const drive = options.find(
      (option) => option.includes(`id=volume${index},`) || option.endsWith(`id=volume${index}`),
    )!;
    match(drive, new RegExp(`file=${path}\\b`));
    match(domain.xml, new RegExp(`<source file='${path}'/>`));
  }
  deepEqual((parse(readFileSync(policy, "utf8")) as { volumes: unknown }).volumes, { names: ["a", "b"] });
});

test("MRCONFIGID of an application with an identity names that, whatever it runs", () => {
  const app = {
    name: "a",
    services: { a: plainService() },
    networks: {},
    volumes: {},
    identity: "7a".repeat(32),
  };
  const id = Buffer.from(mrConfigId({ guest: { app } } as unknown as Manifest));
  equal(id.toString("hex"), `02${"7a".repeat(32)}${"00".repeat(15)}`);
});

test("MRCONFIGID is its version, the SHA-256 of the description, and zeros", () => {
  const app = { name: "hello", services: { hello: plainService() }, networks: {}, volumes: {} };
  const id = Buffer.from(mrConfigId({ guest: { app } } as unknown as Manifest));
  const sorted = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(sorted)
      : typeof value === "object" && value !== null
        ? Object.fromEntries(
            Object.entries(value)
              .sort(([a], [b]) => (a < b ? -1 : 1))
              .map(([k, v]) => [k, sorted(v)]),
          )
        : value;
  const description = hash("sha256", JSON.stringify(sorted(app)), "hex");
  equal(id.toString("hex"), `01${description}${"00".repeat(15)}`);
});

test("a register that nothing predicts is named, and its policy opens nothing for it", (t) => {
  const [{ registers }] = references as [(typeof references)[0]];
  const written = prepareProduction({
    image: image(t),
    manifest,
    shape,
    references: [{ name: "one", registers }],
  });
  deepEqual(written.open, ["rtmr0"]);
  equal(readPolicy(parse(readFileSync(written.policy, "utf8"))).registers, undefined);
});

const pinning = { ...manifest, guest: { ...manifest.guest, kms: { identity } } } as Manifest;

test("the KMS is the one that the image pins, and has an identity in any case", (t) => {
  const directory = image(t);
  const prepare = (pinned: Manifest, address: { url: string; identity?: string }) => () =>
    prepareProduction({ image: directory, manifest: pinned, shape, references, kms: address });
  const { policy } = prepare(pinning, { url: kms.url })();
  deepEqual(readPolicy(parse(readFileSync(policy, "utf8"))).keyProviders, [{ name: "kms", id: identity }]);
  throws(prepare(pinning, { url: kms.url, identity: "cd".repeat(32) }), { code: "production/kms" });
  throws(prepare(manifest, { url: kms.url }), { code: "production/kms", fix: /--kms-identity/ });
});
