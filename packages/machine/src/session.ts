// SPDX-License-Identifier: Apache-2.0
/**
 * One development machine and everything that it needs around it on this host: time servers, a KMS that verifies it,
 * the simulated platform that signs its quotes. The machine itself is the emulated one; nothing here is trusted by it
 * beyond what it measures.
 *
 * State that outlives a run lies beside the image in `<image>.state/`: the KMS's root secret and release log, the
 * instance's seed, the console log, and what an outside verifier needs (policy, collateral, reference values).
 */

import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { accelerator } from "@caisson/host/accelerator";
import type { Shape } from "@caisson/host/machine";
import { freeTcpPort, startTimeServers, type TimeServerOptions } from "@caisson/host/time-servers";
import { Vm, type VmOptions } from "@caisson/host/vm";
import type { Manifest } from "@caisson/image";
import { tryLock } from "@caisson/image/exclusive";
import { createRootSecret, dataFiles, type Kms, type LogToFollow, startKms } from "@caisson/kms";
import { execPort } from "@caisson/protocol/exec";
import {
  type AppDescription,
  applicationId,
  bootSequenceOf,
  description,
  mainPort,
  persistentVolumes,
  publishedPorts,
  secretNames,
} from "@caisson/protocol/guest-config";
import { composeHash } from "@caisson/protocol/identity";
import { encodeInstance, type Instance } from "@caisson/protocol/instance";
import { readSealingKey, sealingKeyPath } from "@caisson/protocol/key-release";
import { writeEnvelope } from "@caisson/releases";
import { simulatedPlatform } from "@caisson/simulated/simulated-platform";
import type { Collateral } from "@caisson/verify";
import { toHex } from "@caisson/vocabulary/bytes";
import { bootEvents } from "@caisson/vocabulary/events";
import { Failure } from "@caisson/vocabulary/failure";
import { consoleEvidence } from "./console-evidence.ts";
import type { DevelopmentOwners } from "./development-owners.ts";
import type { FreshEvidence } from "./relying-party.ts";
import { type VolumeDisk, volumeDisks } from "./volume-disks.ts";

/** This machine's loopback, as a guest behind QEMU's user networking sees it. */
const hostFromGuest = "10.0.2.2";

/** In a session's state while it runs: where `caisson exec` reaches the machine, and the token that it shows. */
export const execFile = "exec.json";
/** Likewise: its published ports (`PublishedPort[]`), for `caisson ps`. */
export const portsFile = "ports.json";

/** The operators that the local time servers stand for. */
const timeOperators = ["alpha", "beta", "gamma", "delta", "epsilon"].map((operator) => ({ operator }));

/** Who releases an image and gives it secrets. */
export type ImageOwners = Pick<DevelopmentOwners, "id" | "release" | "secrets">;

export interface SessionOptions {
  /** The image directory, and its manifest. */
  image: string;
  manifest: Manifest;
  shape: Shape;
  /** Host port of the application; a free one when left out. */
  port?: number;
  /** Reference values by register name (`referenceValues`): what the machine must measure to get its keys. */
  references: object;
  /** Directory of the session's state; `<image>.state` when left out. */
  state?: string;
  /** Milliseconds after which the machine is killed; a person's machine runs for as long as it is wanted. */
  limitMs?: number;
  /** The owners of the application whose identity the image claims: they release it, and give it secrets. */
  owners?: ImageOwners;
  /** The log of releases that the KMS follows. */
  follow?: LogToFollow;
  hooks?: SessionHooks;
}

/** Each part of a session may be replaced, by whoever wants another one. */
export interface SessionHooks {
  machine?: (options: VmOptions) => VmOptions;
  instance?: (instance: Instance) => Instance;
  timeServers?: readonly TimeServerOptions[];
  /** Puts something between guest and KMS: gets the KMS's URL, returns the one that the guest is told. */
  kms?: (url: string) => Promise<{ url: string; close(): Promise<void> }>;
  /** Changes the policy. A real host could not: the relying party writes it. Tests use it to vary policies. */
  policy?: (policy: object) => object;
}

/** A published port of a service, and the port of this host that leads there. */
export interface PublishedPort {
  service: string;
  protocol: "tcp" | "udp";
  published: number;
  host: number;
}

export interface Session {
  vm: Vm;
  /** Where the application's main port is reached; missing when it publishes none. */
  url?: string;
  /** Every published port, and where it is on 127.0.0.1. */
  ports: readonly PublishedPort[];
  /** The disks of its persistent volumes. */
  volumes: readonly VolumeDisk[];
  /** Evidence that the machine made for this session, whatever its application serves. Throws VerifyError. */
  evidence(): Promise<FreshEvidence>;
  kms: Kms;
  accelerator: "kvm" | "tcg";
  /** What an outside verifier judges by: policy, reference values, collateral; as JSON. */
  policy: object;
  references: object;
  collateral: Collateral;
  /** What the owners gave it, where the image claims their identity. */
  release?: { app: string; number: number; secrets: readonly string[] };
  state: string;
  /** Ends the machine cleanly, then everything around it. */
  stop(): Promise<void>;
}

/** Writes a whole file or none. */
function writeWhole(path: string, text: string, mode = 0o644): void {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}

/** The registers that reference values leave open, and so the policy must, by name; RTMR0 by event where it can be. */
function openRegisters(references: object): Record<string, string> {
  const open = ["mrtd", "rtmr0", "rtmr1", "rtmr2"].filter((name) => !Object.hasOwn(references, name));
  const registers: Record<string, string> = Object.fromEntries(open.map((name) => [name, "any"]));
  if (registers.rtmr0 === undefined) return registers;
  if (Object.hasOwn(references, "rtmr0Events")) return { ...registers, rtmr0: "by-event" };
  return { ...registers, hostAcpi: "any" };
}

/** What a relying party of a development machine accepts: this image on the simulated platform, and nothing less. */
export function developmentPolicy(manifest: Manifest, references: object, root: string): object {
  return {
    version: "caisson/policy/v1",
    description: `${manifest.name}, development: the simulated platform proves nothing about hardware`,
    platforms: ["emulated"],
    simulatedRoot: root,
    tcb: { minimumEvaluationNumber: "any" },
    platformIdentities: "any",
    registers: openRegisters(references),
    app: applicationRules(manifest),
    ...volumesOf(manifest),
    secureTime: manifest.guest.time.secure_time ? { origins: ["instance"] } : { methods: ["nts", "none"] },
    events: { bootLog: "required", ...sequenceOf(manifest) },
  };
}

/** Which application: by the release of its identity, or by exactly this description. */
function applicationRules({ guest }: Manifest): object {
  const id = toHex(applicationId(guest));
  return guest.app.identity === undefined
    ? { id: [id], composeHash: [toHex(composeHash(description(guest)))], instanceId: "any" }
    : { identity: { id }, instanceId: "any" };
}

/** A policy's volumes, where the image has some. */
function volumesOf({ guest }: Manifest): { volumes?: object } {
  const names = persistentVolumes(guest.app);
  return names.length === 0 ? {} : { volumes: { names } };
}

/** A policy's sequence, where the image measures more than every image does. */
export function sequenceOf({ guest }: Manifest): { sequence?: readonly string[] } {
  const sequence = bootSequenceOf(guest.app);
  return sequence.length === bootEvents.length ? {} : { sequence };
}

/** The KMS's policy directory for this one application, made anew. */
function writeKmsPolicy(state: string, manifest: Manifest, references: object, policy: object): void {
  const directory = join(state, "policies");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(directory, "manifests"), { recursive: true });
  const text = JSON.stringify(references);
  writeWhole(join(directory, "manifests", "references.json"), text);
  const file = {
    version: "caisson/kms-policy/v1",
    app: toHex(applicationId(manifest.guest)),
    keyVersion: 1,
    ...volumeOwner(state, manifest),
    manifests: [createHash("sha256").update(text).digest("hex")],
    policy,
  };
  writeWhole(join(directory, `${manifest.name}.json`), JSON.stringify(file, null, 2));
}

/**
 * Whose volumes an image without an identity opens: those of the first that ran here. With an identity, later versions
 * are the same application by themselves.
 */
function volumeOwner(state: string, { guest }: Manifest): { volumeOwner?: string } {
  if (persistentVolumes(guest.app).length === 0 || guest.app.identity !== undefined) return {};
  const path = join(state, "volume-owner");
  if (!existsSync(path)) writeWhole(path, toHex(applicationId(guest)));
  return { volumeOwner: readFileSync(path, "utf8").trim() };
}

/** Seed of the instance whose state lies in `state`, 20 bytes in hex: made at its first start, the same ever after. */
export function instanceSeed(state: string): string {
  const path = join(state, "instance-seed");
  if (!existsSync(path)) writeWhole(path, randomBytes(20).toString("hex"), 0o600);
  return readFileSync(path, "utf8").trim();
}

/** A machine runs on this state directory. */
export class StateBusyError extends Failure<"up/busy", "unavailable"> {
  override readonly name = "StateBusyError";
  constructor(state: string) {
    super("up/busy", "unavailable", `another machine runs on ${state}`, {
      fix: "end the other one; a second machine of the same application starts from a copy of its directory",
    });
  }
}

const lockOf = (state: string): string => `state ${realpathSync(state)}`;

/** Whether a machine runs on a state directory now. */
export async function runsOn(state: string): Promise<boolean> {
  const release = existsSync(state) ? await tryLock(lockOf(state)) : async () => {};
  await release?.();
  return release === undefined;
}

/**
 * Takes a state directory for one machine, and makes it where it is missing. Two would be one instance, with the same
 * keys, and each would write over the other's policy, ports and log. Returns what gives it up. Throws StateBusyError.
 */
async function claimState(state: string): Promise<() => Promise<void>> {
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const release = await tryLock(lockOf(state));
  if (release === undefined) throw new StateBusyError(state);
  return release;
}

/** A free port of this host for everything that the application publishes; `wanted` for the main one, if given. */
async function hostPorts(app: AppDescription, wanted: number | undefined): Promise<PublishedPort[]> {
  const main = mainPort(app);
  const ports: PublishedPort[] = [];
  for (const { service, protocol, published } of publishedPorts(app)) {
    const isMain = protocol === "tcp" && published === main;
    const host = (isMain ? wanted : undefined) ?? (await freeTcpPort());
    ports.push({ service, protocol, published, host });
  }
  return ports;
}

/** How long a machine may take to end: its services one after the other, and itself. */
function graceMs({ services }: AppDescription): number {
  const all = Object.values(services).reduce((sum, { stopGraceMs }) => sum + stopGraceMs, 0);
  return 15_000 + Math.min(all, 120_000);
}

/** What the owners give a machine of this image: its release and, sealed to this KMS, its secrets. */
async function askOwners(
  owners: ImageOwners,
  { image, manifest }: SessionOptions,
  kms: Kms,
): Promise<{ instance: Pick<Instance, "release" | "secrets">; release: NonNullable<Session["release"]> }> {
  const bytes = new Uint8Array(readFileSync(join(image, "manifest.json")));
  const now = Date.now();
  const described = toHex(composeHash(description(manifest.guest)));
  const { number, bundle } = await owners.release(bytes, described, now);
  const secrets = secretNames(manifest.guest.app);
  const release = { app: owners.id, number, secrets };
  if (secrets.length === 0) return { instance: { release: bundle }, release };
  const answer = await fetch(new URL(`${sealingKeyPath}/${owners.id}`, kms.url));
  const key = readSealingKey(await answer.json(), kms.identityKey, owners.id);
  const sealed = writeEnvelope(await owners.secrets(secrets, key, now));
  return { instance: { release: bundle, secrets: sealed }, release };
}

/** Starts everything. Whatever was started is ended again when something fails. Throws, among others, StateBusyError. */
export async function startSession(options: SessionOptions): Promise<Session> {
  const { image, manifest, shape, references, hooks = {} } = options;
  const { state = `${image}.state` } = options;
  const platform = simulatedPlatform(Date.now());
  const honest = developmentPolicy(manifest, references, platform.root);
  const policy = hooks.policy?.(honest) ?? honest;
  const ends: (() => Promise<unknown>)[] = [await claimState(state)];
  const endAll = (): Promise<void> => endEach(ends.splice(0).reverse());
  try {
    const volumes = volumeDisks(state, manifest.guest.app);
    const timeServers = await startTimeServers(hooks.timeServers ?? timeOperators, hostFromGuest);
    ends.push(() => timeServers.stop());
    writeKmsPolicy(state, manifest, references, policy);
    mkdirSync(join(state, "collateral"), { recursive: true });
    writeWhole(join(state, "collateral", "simulated.json"), JSON.stringify(platform.collateral));
    const data = join(state, "kms");
    if (!existsSync(join(data, dataFiles.rootSecret))) createRootSecret(data, { development: true });
    const kms = await startKms({
      data,
      policies: join(state, "policies"),
      host: "127.0.0.1",
      port: 0,
      development: true,
      collateral: join(state, "collateral"),
      ...(options.follow !== undefined && { follow: options.follow }),
    });
    ends.push(() => kms.close());
    // An outsider sees the same machine as the KMS did, and also which KMS gave it its keys.
    const outside = { ...policy, keyProviders: [{ name: "kms", id: kms.identityKey }] };
    writeWhole(join(state, "policy.json"), JSON.stringify(outside, null, 2));
    writeWhole(join(state, "references.json"), JSON.stringify(references, null, 2));
    const between = await hooks.kms?.(kms.url);
    if (between !== undefined) ends.push(() => between.close());
    const kmsPort = new URL(between?.url ?? kms.url).port;
    const challenge = randomBytes(32);
    const given = options.owners && (await askOwners(options.owners, options, kms));
    // What the owners just logged counts from the first request on.
    if (options.follow !== undefined) await kms.reload();
    const execHost = await freeTcpPort();
    const exec = randomBytes(32);
    const instance: Instance = {
      version: "caisson/instance/v1",
      seed: instanceSeed(state),
      kms: { url: `http://${hostFromGuest}:${kmsPort}`, identity: kms.identityKey },
      time: { sources: timeServers.servers.map(({ source }) => source) },
      challenge: toHex(challenge),
      exec: toHex(exec),
      collateral: platform.collateral,
      ...given?.instance,
    };
    writeWhole(join(state, execFile), JSON.stringify({ port: execHost, token: toHex(exec) }), 0o600);
    ends.push(async () => rmSync(join(state, execFile), { force: true }));
    const ports = await hostPorts(manifest.guest.app, options.port);
    writeWhole(join(state, portsFile), JSON.stringify(ports));
    ends.push(async () => rmSync(join(state, portsFile), { force: true }));
    const main = mainPort(manifest.guest.app);
    const mainHost = ports.find(({ protocol, published }) => protocol === "tcp" && published === main)?.host;
    const start: VmOptions = {
      shape,
      firmwareCode: join(image, manifest.firmware.emulated.code.file),
      firmwareVariables: join(image, manifest.firmware.emulated.variables.file),
      kernel: join(image, manifest.kernel.file),
      commandLine: manifest.commandLine,
      rootfs: join(image, manifest.rootfs.file),
      instance: encodeInstance(hooks.instance?.(instance) ?? instance),
      volumes: volumes.map(({ path }) => path),
      forwards: [
        ...ports.map(({ protocol, host, published }) => ({ protocol, host, guest: published })),
        { host: execHost, guest: execPort },
      ],
      signQuote: platform.sign,
      accelerator: await accelerator(),
      serialLog: join(state, "console.log"),
      ...(options.limitMs !== undefined && { limitMs: options.limitMs }),
    };
    const vm = await Vm.start(hooks.machine?.(start) ?? start);
    ends.push(() => vm.powerDown(graceMs(manifest.guest.app)));
    return {
      vm,
      ...(mainHost !== undefined && {
        url: `${manifest.guest.app.front === undefined ? "http" : "https"}://127.0.0.1:${mainHost}/`,
      }),
      ports,
      volumes,
      evidence: () => consoleEvidence(vm, challenge),
      kms,
      policy: outside,
      references,
      collateral: platform.collateral,
      ...(given !== undefined && { release: given.release }),
      state,
      accelerator: start.accelerator,
      stop: endAll,
    };
  } catch (error) {
    // Why it could not start says more than what cannot be ended because of it.
    await endAll().catch(() => undefined);
    throw error;
  }
}

/** One after the other, each whether the one before succeeded or not; throws what the first that failed threw. */
async function endEach(ends: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failed: unknown[] = [];
  for (const end of ends) await end().catch((error: unknown) => failed.push(error));
  if (failed.length > 0) throw failed[0];
}
