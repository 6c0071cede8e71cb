// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { loadPolicies } from "./policies.ts";
import { Machine } from "./testing/machine.ts";

const identity = "01".repeat(32);
const machine = new Machine(Date.parse("2026-06-01T12:00:00Z"));
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

function directory(t: TestContext, files: Record<string, string>): string {
  const path = mkdtempSync(join(tmpdir(), "caisson-kms-policies-"));
  t.after(() => rmSync(path, { recursive: true }));
  mkdirSync(join(path, "manifests"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), text);
  }
  return path;
}

/** The policy file of `machine` with changes to the file and to the policy in it. */
function file(changes: object = {}, policy: Record<string, unknown> = {}): string {
  return JSON.stringify({ ...machine.policyFile(policy), ...changes });
}

test("a policy is completed: this app, this KMS, a fresh nonce, a log that ends at key-provider", (t) => {
  const text = file();
  const { policy, digest, keyVersion } = loadPolicies(directory(t, { "a.json": text }), identity, true).get(
    machine.app,
  )!;
  deepEqual(policy.app, { id: [machine.app], composeHash: "any", instanceId: "any" });
  deepEqual(policy.keyProviders, [{ name: "kms", id: identity }]);
  equal(policy.freshness, "nonce");
  equal(policy.events?.sequence?.at(-1), "key-provider");
  equal(policy.events?.sequence?.length, 7);
  equal(digest.toHex(), sha256(text));
  equal(keyVersion, 1);
});

for (const name of ["", "a.json"]) {
  test(`refused: ${name || "the directory"} can be written by others`, (t) => {
    const path = directory(t, { "a.json": file() });
    for (const mode of [0o775, 0o757]) {
      chmodSync(join(path, name), mode);
      throws(() => loadPolicies(path, identity, true), { code: "policy/permissions" });
    }
    chmodSync(join(path, name), 0o755);
    equal(loadPolicies(path, identity, true).size, 1);
  });
}

test("YAML is read as well; the sequence of a policy of its own is cut after key-provider", (t) => {
  const yaml = [
    "version: caisson/kms-policy/v1",
    `app: ${machine.app}`,
    "keyVersion: 3",
    "policy:",
    "  version: caisson/policy/v1",
    "  events: { sequence: [app-id, key-provider, system-ready], afterBoundary: any }",
  ].join("\n");
  const { policy, keyVersion } = loadPolicies(directory(t, { "a.yaml": yaml }), identity, false).get(
    machine.app,
  )!;
  deepEqual(policy.events, { sequence: ["app-id", "key-provider"] });
  equal(keyVersion, 3);
});

test("allowed manifests give references, by the hash of their bytes", (t) => {
  const manifest = JSON.stringify({
    measurements: { tdx: { mrtd: "aa".repeat(48), rtmr1: "bb".repeat(48) } },
  });
  const files = { "a.json": file({ manifests: [sha256(manifest)] }), "manifests/image.json": manifest };
  const { references } = loadPolicies(directory(t, files), identity, true).get(machine.app)!;
  deepEqual(references, [
    {
      name: "manifests/image.json/tdx",
      platform: "tdx",
      registers: { mrtd: "aa".repeat(48), rtmr1: "bb".repeat(48) },
    },
  ]);
});

test("the example of docs/key-release.md is a policy for production", (t) => {
  const document = readFileSync(new URL("../../../docs/key-release.md", import.meta.url), "utf8");
  const manifest = JSON.stringify({ measurements: { mrtd: "aa".repeat(48) } });
  const [, example] = /```yaml\n([\s\S]+?)```/.exec(document)!;
  const yaml = example!.replace("5d41…", sha256(manifest)).replace("01b2…", "01".padEnd(96, "0"));
  const files = { "app.yaml": yaml, "manifests/image.json": manifest };
  const policies = loadPolicies(directory(t, files), identity, false);
  const app = "26dba3998c572e52bf475c1bb66cef2a1e11b7d1";
  deepEqual([...policies.apps()], [app]);
  equal(policies.get(app)!.references.length, 1);
});

const registers = { mrtd: "aa".repeat(48), rtmr1: "bb".repeat(48), rtmr2: "cc".repeat(48) };
const production = { platforms: undefined, simulatedRoot: undefined, references: undefined };

test("a manifest names its application, and must be of the one whose keys the file gives away", (t) => {
  const app = { name: "hello" };
  const manifest = JSON.stringify({ guest: { app }, measurements: { ...registers, rtmr0: "dd".repeat(48) } });
  const policy = (changes: object) => file({ manifests: [sha256(manifest)], ...changes }, production);
  const load = (text: string) =>
    loadPolicies(directory(t, { "a.json": text, "manifests/x.json": manifest }), identity, false);
  // SHA-256 of {"name":"hello"}, its first 20 bytes: the vector of docs/key-release.md.
  const own = "26dba3998c572e52bf475c1bb66cef2a1e11b7d1";
  deepEqual(load(policy({ app: own })).get(own)!.warnings, []);
  throws(() => load(policy({ app: own.replace("26", "27") })), {
    code: "policy/malformed",
    message: /of another application/,
  });
});

const warned: { name: string; policy: object; manifest: object; code: string | undefined }[] = [
  {
    name: "manifests without RTMR0, which is compared",
    policy: {},
    manifest: registers,
    code: "policy/not-covered",
  },
  {
    name: "RTMR0 compared by event, without events",
    policy: { registers: { rtmr0: "by-event" } },
    manifest: registers,
    code: "policy/not-covered",
  },
  {
    name: "RTMR0 by event, with events",
    policy: { registers: { rtmr0: "by-event" } },
    manifest: { ...registers, rtmr0Events: ["smbios"] },
    code: undefined,
  },
  {
    name: "values for another platform",
    policy: {},
    manifest: { emulated: { ...registers, rtmr0: "dd".repeat(48) } },
    code: "policy/not-covered",
  },
  {
    name: "all of RTMR0 open",
    policy: { registers: { rtmr0: "any", hostAcpi: "any" } },
    manifest: registers,
    code: "policy/host-acpi",
  },
];
for (const { name, policy, manifest, code } of warned) {
  test(`${code === undefined ? "not warned of" : "warned of"}: ${name}`, (t) => {
    const text = JSON.stringify({ measurements: manifest });
    const files = {
      "a.json": file({ manifests: [sha256(text)] }, { ...production, ...policy }),
      "manifests/x.json": text,
    };
    const { warnings } = loadPolicies(directory(t, files), identity, false).get(machine.app)!;
    deepEqual(
      warnings.map((warning) => warning.code),
      code === undefined ? [] : [code],
    );
  });
}

test("all of RTMR0 open is not news where nothing is proved", (t) => {
  const files = { "a.json": file({}, { registers: { rtmr0: "any", hostAcpi: "any" } }) };
  deepEqual(loadPolicies(directory(t, files), identity, true).get(machine.app)!.warnings, []);
});

test("RTMR0 may be left open by two words, because not every prediction determines it", (t) => {
  const registers = { rtmr0: "any", hostAcpi: "any" };
  const text = file({}, { platforms: undefined, simulatedRoot: undefined, registers });
  const { policy } = loadPolicies(directory(t, { "a.json": text }), identity, false).get(machine.app)!;
  deepEqual(policy.registers, registers);
});

const refused: { name: string; files: Record<string, string>; code: string; development?: boolean }[] = [
  { name: "no policy at all", files: { "README.md": "" }, code: "policy/none" },
  {
    name: "the emulated platform, in production",
    files: { "a.json": file() },
    development: false,
    code: "policy/malformed",
  },
  {
    name: "two policies for one app",
    files: { "a.json": file(), "b.json": file() },
    code: "policy/duplicate",
  },
  { name: "no JSON", files: { "a.json": "{" }, code: "policy/malformed" },
  {
    name: "a repeated key",
    files: { "a.yaml": `${file().slice(0, -1)},"keyVersion":2}` },
    code: "policy/malformed",
  },
  { name: "an unknown field", files: { "a.json": file({ more: 1 }) }, code: "policy/malformed" },
  { name: "an unknown rule", files: { "a.json": file({}, { more: 1 }) }, code: "policy/malformed" },
  { name: "an app id of another length", files: { "a.json": file({ app: "00" }) }, code: "policy/malformed" },
  { name: "key version 0", files: { "a.json": file({ keyVersion: 0 }) }, code: "policy/malformed" },
  {
    name: "a policy for another app",
    files: { "a.json": file({}, { app: { id: ["00".repeat(20)] } }) },
    code: "policy/malformed",
  },
  { name: "any app", files: { "a.json": file({}, { app: { id: "any" } }) }, code: "policy/malformed" },
  { name: "stale evidence", files: { "a.json": file({}, { freshness: "any" }) }, code: "policy/malformed" },
  { name: "enclaves", files: { "a.json": file({}, { sgx: {} }) }, code: "policy/malformed" },
  {
    name: "guests without events",
    files: { "a.json": file({}, { runtimeEvents: "none" }) },
    code: "policy/malformed",
  },
  {
    name: "any key provider",
    files: { "a.json": file({}, { keyProviders: "any" }) },
    code: "policy/malformed",
  },
  ...["mrtd", "rtmr1", "rtmr2"].map((name) => ({
    name: `${name} left open, in production`,
    files: {
      "a.json": file({}, { platforms: undefined, simulatedRoot: undefined, registers: { [name]: "any" } }),
    },
    development: false,
    code: "policy/malformed",
  })),
  {
    name: "a file that cannot be read",
    files: { "a.json": file(), "b.json/x": "" },
    code: "policy/malformed",
  },
  {
    name: "a sequence without key-provider",
    files: { "a.json": file({}, { events: { sequence: ["app-id"] } }) },
    code: "policy/malformed",
  },
  {
    name: "a manifest that is not there",
    files: { "a.json": file({ manifests: ["00".repeat(32)] }) },
    code: "policy/malformed",
  },
  {
    name: "a manifest without register values",
    files: { "a.json": file(), "manifests/x.json": "{}" },
    code: "policy/malformed",
  },
];
for (const { name, files, code, development = true } of refused) {
  test(`refused: ${name}`, (t) =>
    throws(() => loadPolicies(directory(t, files), identity, development), { code }));
}
