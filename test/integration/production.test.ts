// SPDX-License-Identifier: Apache-2.0
/**
 * The production path without hardware: what `caisson instance` wrote, a KMS and a relying party that use exactly that,
 * by the documented commands, and TDX evidence of the machine that it describes, signed by a test PKI in Intel's place.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { httpPost, requestKeys } from "@caisson/guest/key-client";
import { imageFwCfg } from "@caisson/host/fw-cfg";
import { freeTcpPort } from "@caisson/host/ports";
import { type Manifest, readManifest } from "@caisson/image/manifest";
import { imageInputs } from "@caisson/machine/prediction";
import { fold, predict, runtimeEventDigest } from "@caisson/measure";
import { eventLog } from "@caisson/measure/testing/synthetic";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { description } from "@caisson/protocol/guest-config";
import { appId, composeHash, instanceId, keyProvider } from "@caisson/protocol/identity";
import { decodeInstance } from "@caisson/protocol/instance";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote, type TdSpec } from "@caisson/simulated/quotes";
import { type Collateral, type EvidenceDocument, readReferences, reportData } from "@caisson/verify";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { evidencePath } from "@caisson/vocabulary/paths";
import { newerQemu } from "../support/debian.ts";
import { imageOf } from "../support/image.ts";
import { writeQemu } from "../support/qemu-stand-in.ts";
import { makeTdxHost } from "../support/tdx-host.ts";
import { testHierarchy } from "../support/test-root.ts";

const cli = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;
const testRoot = new URL("../support/test-root.ts", import.meta.url).href;
const tdxHost = new URL("../support/tdx-host.ts", import.meta.url).href;
const hello = new URL("../../examples/hello", import.meta.url).pathname;
const shape = { vcpus: 2, memory: 1024 };
const sha384 = 12;

const place = mkdtempSync(join(tmpdir(), "caisson-production-"));
const image = join(place, "image");
const data = join(place, "kms");
const kmsUrl = "http://127.0.0.1:7700";
let identity = "";
let served = "";
let manifest: Manifest;
let written: { policy: string; references: string; kmsPolicies: string; mrConfigId: string; open: string[] };
const children: ChildProcess[] = [];

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command under the test root; spawnSync would not let this process answer it. */
const caisson = (...args: string[]): Promise<Ended> => run(args);

/** The same on a host with TDX, where `host` is one's directory; interrupts it when it says `until`. */
function run(args: readonly string[], host?: string, until?: RegExp): Promise<Ended> {
  const imports = host === undefined ? [testRoot] : [testRoot, tdxHost];
  const child = spawn(process.execPath, [...imports.flatMap((path) => ["--import", path]), cli, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...(host !== undefined && { CAISSON_TEST_HOST: host }) },
  });
  children.push(child);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
    if (!child.killed && until?.test(stderr)) child.kill("SIGINT");
  });
  return new Promise((resolve) => child.once("close", (status) => resolve({ status, stdout, stderr })));
}

const collateralFile = join(place, "collateral.json");
const instance = (acpi: string, ...more: string[]) =>
  caisson("instance", image, "--kms", kmsUrl, "--kms-identity", identity, "--acpi", acpi, ...more);

/** ACPI tables of the machine as a QEMU of the generation of TDX has them, without SMBIOS: that is the host's. */
async function tables(): Promise<string> {
  const directory = join(place, "by_name");
  const machine = {
    platform: "tdx",
    shape,
    kernel: join(image, manifest.kernel.file),
    firmware: join(image, manifest.firmware.tdx.code.file),
  } as const;
  const files = await imageFwCfg(await newerQemu(), machine, join(place, "cache"));
  for (const [name, bytes] of Object.entries(files)) {
    if (name.includes("smbios")) continue;
    mkdirSync(join(directory, name, ".."), { recursive: true });
    writeFileSync(join(directory, name), bytes!);
  }
  return directory;
}

before(async () => {
  const built = await imageOf("production");
  cpSync(built.directory, image, { recursive: true });
  manifest = readManifest(image);
  const made = await caisson("kms", "init", "--data", data);
  equal(made.status, 0, made.stderr);
  identity = (await caisson("kms", "identity", "--data", data)).stdout.trim();
  writeFileSync(collateralFile, JSON.stringify(mint(testHierarchy()).collateral));
  const { status, stdout, stderr } = await instance(await tables(), "--json", "--collateral", collateralFile);
  equal(status, 0, stderr);
  written = JSON.parse(stdout);
  served = await serveKms();
});
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(place, { recursive: true, force: true });
});

/** What a test changes of the machine. */
interface Changes {
  td?: Partial<TdSpec>;
  /** Digests of RTMR0, before they are folded. */
  rtmr0?: (digests: string[]) => string[];
  events?: (events: { name: string; payload: Uint8Array }[]) => { name: string; payload: Uint8Array }[];
}

const text = (value: string) => new TextEncoder().encode(value);
/** The host's SMBIOS tables: nobody can predict their digest. */
const hostSmbios = "5a".repeat(48);

/** Evidence of the machine that was described, over `bound`, at the stage before or after its keys. */
async function evidence(
  bound: Uint8Array,
  claim: EvidenceDocument["reportData"],
  ready: boolean,
  changes: Changes = {},
): Promise<EvidenceDocument> {
  const machine = {
    platform: "tdx",
    qemu: "none",
    qemuVersion: "10.1.0",
    acpi: join(place, "by_name"),
  } as const;
  const { input } = await imageInputs(image, {
    ...machine,
    vcpus: shape.vcpus,
    memory: shape.memory * 2 ** 20,
  });
  const prediction = await predict(input);
  const [reference] = readReferences(JSON.parse(readFileSync(written.references, "utf8")), "written");
  const digestsOf = (register: string) =>
    prediction.events
      .filter((event) => event.register === register)
      .map(({ digest }) => digest ?? hostSmbios);
  const rtmr0 = (changes.rtmr0 ?? ((digests) => digests))(digestsOf("rtmr0"));
  const boot = [rtmr0, digestsOf("rtmr1"), digestsOf("rtmr2")];
  const log = eventLog(
    [[sha384, 48]],
    boot.flatMap((digests, register) =>
      digests.map((digest) => ({
        index: register + 1,
        type: 0x8000_0001,
        digests: [[sha384, Uint8Array.fromHex(digest)] as const],
        data: new Uint8Array(),
      })),
    ),
  );
  const { seed, kms, collateral } = decodeInstance(readFileSync(`${image}.state/instance.img`));
  const described = description(manifest.guest);
  const time = {
    method: "nts",
    midpoint: Date.now(),
    operators: ["a", "b", "c"],
    origin: "image",
    width: 20,
  };
  const measured = [
    { name: "system-preparing", payload: new Uint8Array() },
    { name: "app-id", payload: appId(described) },
    { name: "compose-hash", payload: composeHash(described) },
    { name: "instance-id", payload: instanceId(appId(described), Buffer.from(seed, "hex")) },
    { name: "secure-time", payload: text(canonicalJson(time)) },
    { name: "boot-mr-done", payload: new Uint8Array() },
    { name: "key-provider", payload: keyProvider(Uint8Array.fromHex(kms!.identity!)) },
    ...(ready ? [{ name: "system-ready", payload: new Uint8Array() }] : []),
  ];
  const events = (changes.events ?? ((list) => list))(measured);
  const foldHex = async (digests: readonly string[]) =>
    (await fold(digests.map((digest) => Uint8Array.fromHex(digest)))).toHex();
  const runtime = await Promise.all(events.map(({ name, payload }) => runtimeEventDigest(name, payload)));
  const pki = testHierarchy();
  const { pckChain } = mint(pki);
  const td: Partial<TdSpec> = {
    mrTd: reference!.registers.mrtd!,
    mrConfigId: written.mrConfigId,
    rtmr0: await foldHex(rtmr0),
    rtmr1: await foldHex(boot[1]!),
    rtmr2: await foldHex(boot[2]!),
    rtmr3: (await fold(runtime)).toHex(),
    reportData: bound.toHex(),
    ...changes.td,
  };
  return {
    version: "caisson/evidence/v1",
    platform: "tdx",
    quote: issueQuote(pki, pckChain, td).toBase64(),
    bootLog: log.toBase64(),
    runtimeEvents: events.map(({ name, payload }) => ({ name, payload: payload.toHex() })),
    reportData: claim,
    collateral: collateral as Collateral,
  };
}

/** Where the documented `kms serve` serves, on the policies that were written. */
async function serveKms(): Promise<string> {
  const args = [
    "kms",
    "serve",
    "--data",
    data,
    "--policy-dir",
    written.kmsPolicies,
    "--listen",
    "127.0.0.1:0",
  ];
  const child = spawn(process.execPath, ["--import", testRoot, cli, ...args, "--json"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  let said = "";
  for await (const chunk of child.stdout) {
    said += chunk;
    if (said.endsWith("}\n")) break;
  }
  return (JSON.parse(said) as { url: string }).url;
}

/** To which application the KMS releases keys; its denial's code otherwise. */
async function askKms(changes?: Changes): Promise<string> {
  try {
    const keys = await requestKeys({
      post: httpPost(served, 20_000),
      identityKey: Uint8Array.fromHex(identity),
      evidence: (bound) =>
        evidence(bound, { scheme: "raw", fields: { data: bound.toHex() } }, false, changes),
      now: Date.now,
      toleranceMs: 2000,
    });
    return `released to ${keys.app}`;
  } catch (error) {
    return (error as { denial?: string }).denial ?? String(error);
  }
}

/** What the machine's application serves: its evidence. */
async function serveEvidence(changes?: Changes): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    const url = new URL(request.url!, "http://machine");
    equal(url.pathname, evidencePath);
    const nonce = Uint8Array.fromHex(url.searchParams.get("nonce")!);
    const claim = { scheme: "caisson/app/v1", fields: { nonce: nonce.toHex() } } as const;
    void reportData("caisson/app/v1", { nonce })
      .then((bound) => evidence(bound, claim, true, changes))
      .then((document) => response.end(JSON.stringify(document)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` };
}

/** What the documented `verify --from` says of it: exit code and codes. */
async function askVerifier(changes?: Changes): Promise<[number | null, string[]]> {
  const { server, url } = await serveEvidence(changes);
  try {
    const files = ["--policy", written.policy, "--image", written.references];
    const { status, stdout, stderr } = await caisson("verify", "--from", url, ...files, "--json");
    ok(stdout !== "", stderr);
    return [status, (JSON.parse(stdout) as { codes: string[] }).codes];
  } finally {
    server.close();
  }
}

test("nothing is left to predict, and the instance document names the KMS", () => {
  deepEqual(written.open, []);
  const { kms } = decodeInstance(readFileSync(`${image}.state/instance.img`));
  deepEqual(kms, { url: kmsUrl, identity });
});

test("the KMS releases keys to the machine, and a relying party accepts it, by what was written", async () => {
  equal(await askKms(), `released to ${Buffer.from(appId(description(manifest.guest))).toString("hex")}`);
  deepEqual(await askVerifier(), [0, []]);
});

const other = "7f".repeat(48);
const refusals: Record<string, { changes: Changes; code: string | RegExp }> = {
  "another MRCONFIGID": { changes: { td: { mrConfigId: other } }, code: "td/mr-config-id" },
  "MRCONFIGID left at zero": { changes: { td: { mrConfigId: "00".repeat(48) } }, code: "td/mr-config-id" },
  "another firmware": { changes: { td: { mrTd: other } }, code: /^registers\// },
  "another kernel": { changes: { td: { rtmr1: other } }, code: /^(registers|events)\// },
  "another command line or root": { changes: { td: { rtmr2: other } }, code: /^(registers|events)\// },
  "an ACPI table of the host's making": {
    changes: { rtmr0: (digests) => digests.with(digests.indexOf(hostSmbios) - 1, other) },
    code: /^registers\/(rtmr0|no-match)/,
  },
  "an event more before the kernel": {
    changes: { rtmr0: (digests) => [...digests, other] },
    code: /^registers\/(rtmr0|no-match)/,
  },
  "another application": {
    changes: {
      events: (events) => events.with(1, { name: "app-id", payload: new Uint8Array(20).fill(1) }),
    },
    code: /^app\//,
  },
  "another KMS": {
    changes: {
      events: (events) =>
        events.with(6, { name: "key-provider", payload: keyProvider(new Uint8Array(32).fill(1)) }),
    },
    code: "keys/key-provider",
  },
};
for (const [name, { changes, code }] of Object.entries(refusals)) {
  test(`refused by both: ${name}`, async () => {
    const [status, codes] = await askVerifier(changes);
    equal(status, 10);
    const expected = code instanceof RegExp ? code : new RegExp(`^${code}$`);
    ok(
      codes.some((found) => expected.test(found)),
      codes.join(),
    );
    // For another application the KMS has no policy at all.
    match(await askKms(changes), name === "another application" ? /^(app|policy)\// : expected);
  });
}

test("without tables of such a QEMU the command says that no machine is accepted yet", async () => {
  const kms = ["--kms", kmsUrl, "--kms-identity", identity, "--collateral", collateralFile];
  const { status, stdout } = await caisson("instance", image, ...kms);
  equal(status, 0);
  match(stdout, /^Not predicted: rtmr0\. The policies refuse every machine until they are:$/m);
});

test("collateral that no evidence could be judged by is not given to a machine", async () => {
  const foreign = join(place, "foreign.json");
  const pki = hierarchy("another root", { issued: new Date("2026-01-01"), expires: new Date("2099-01-01") });
  writeFileSync(foreign, JSON.stringify(mint(pki).collateral));
  const acpi = join(place, "by_name");
  const refused = await instance(acpi, "--collateral", foreign);
  equal(refused.status, 10, refused.stderr);
  match(refused.stderr, /chain\/untrusted-root/);
  const missing = await instance(acpi, "--collateral", join(place, "none"));
  equal(missing.status, 2, missing.stderr);
});

const ready: readonly [number, ConsoleEvent] = [200, { at: 4.5, kind: "ready", port: 8080 }];
const endsWith = (status: number): readonly [number, ConsoleEvent] => [
  3_000,
  { at: 6, kind: "ended", service: "hello", status },
];

/** `up --platform tdx` on a host that can, with a program in QEMU's place, as far as the guest's own words. */
async function upOnTdx(
  says: readonly (readonly [number, ConsoleEvent])[],
  guest: string,
  more: readonly string[],
  until?: RegExp,
) {
  const [host, qemu] = [join(place, "host"), join(place, "qemu")];
  const record = join(place, `record-${Math.random()}`);
  makeTdxHost(host);
  writeQemu(qemu, { says, guest, record });
  cpSync(hello, join(place, "spec"), { recursive: true, filter: (path) => !path.endsWith("/out") });
  const tdx = [
    "--platform",
    "tdx",
    "--qemu",
    qemu,
    "--acpi",
    join(place, "by_name"),
    "--collateral",
    collateralFile,
  ];
  const kms = ["--kms", kmsUrl, "--kms-identity", identity, "--port", String(await freeTcpPort())];
  const ended = await run(["up", join(place, "spec"), ...tdx, ...kms, ...more], host, until);
  const recorded = existsSync(record) ? readFileSync(record, "utf8").trim().split("\n") : [];
  const [args = "[]", ...asked] = recorded;
  return { ...ended, args: JSON.parse(args) as string[], asked };
}

test("on a host with TDX the machine is started as it was printed, judged, and powered off", async (t) => {
  const { server, url } = await serveEvidence();
  t.after(() => server.close());
  const { status, stdout, stderr, args, asked } = await upOnTdx([ready], url, ["--once"]);
  equal(status, 0, stderr);
  match(stdout, /^This host has what a trust domain needs, if a quoting service listens\.$/m);
  match(stderr, /^evidence accepted: \d+ checks passed$/m);
  match(args.join(" "), /"qom-type":"tdx-guest".*confidential-guest-support=tdx/);
  for (const word of args) ok(stdout.includes(word), `printed: ${word}`);
  deepEqual(asked, ["qmp_capabilities", "qmp_capabilities", "system_powerdown"]);
});

test("on a host with TDX evidence of another machine is rejected, and the command says so", async (t) => {
  const { server, url } = await serveEvidence({ td: { rtmr1: other } });
  t.after(() => server.close());
  const { status, stderr } = await upOnTdx([ready], url, ["--once"]);
  equal(status, 10, stderr);
  match(stderr, /^evidence rejected because /m);
});

test("an application that serves no evidence runs on, unverified; its end is the command's", async (t) => {
  const server = createServer((_, response) => void response.writeHead(404).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const { status, stderr } = await upOnTdx([ready, endsWith(3)], url, []);
  match(stderr, /^not verified: no evidence from .*answers 404$/m);
  match(stderr, /hello ended with status 3 {3}\[up\/application\]/);
  equal(status, 10, stderr);
});

test("Ctrl-C while such a machine boots ends it, and is not a failure of its boot", async () => {
  const words: readonly [number, ConsoleEvent] = [200, { at: 1, kind: "note", text: "booting" }];
  const { status, stderr, asked } = await upOnTdx([words], "http://127.0.0.1:9/", [], /booting/);
  equal(status, 130, stderr);
  match(stderr, /stopped by SIGINT {3}\[cli\/interrupted\]/);
  equal(asked.at(-1), "system_powerdown");
});
