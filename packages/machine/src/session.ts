// SPDX-License-Identifier: Apache-2.0
/**
 * One development machine and everything that it needs around it on this host: time servers, a KMS that verifies it,
 * the simulated platform that signs its quotes. The machine itself is the emulated one; nothing here is trusted by it
 * beyond what it measures.
 *
 * State that outlives a run lies beside the image in `<image>.state/`: the KMS's root secret and release log, the
 * instance's seed, the console log, and what an outside verifier needs (policy, collateral, reference values).
 */

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { accelerator } from "@caisson/host/accelerator";
import type { Shape } from "@caisson/host/machine";
import { freeTcpPort } from "@caisson/host/ports";
import { startTimeServers, type TimeServerOptions } from "@caisson/host/time-servers";
import { Vm, type VmOptions } from "@caisson/host/vm";
import type { Manifest } from "@caisson/image";
import { createRootSecret, dataFiles, type Kms, type LogToFollow, startKms } from "@caisson/kms";
import { execPort } from "@caisson/protocol/exec";
import {
  type AppDescription,
  description,
  mainPort,
  publishedPorts,
  secretNames,
} from "@caisson/protocol/guest-config";
import { composeHash } from "@caisson/protocol/identity";
import { encodeInstance, type Instance } from "@caisson/protocol/instance";
import { readSealingKey, sealingKeyPath } from "@caisson/protocol/key-release";
import { writeEnvelope } from "@caisson/releases";
import { type SimulatedPlatform, simulatedPlatform } from "@caisson/simulated/simulated-platform";
import type { Collateral } from "@caisson/verify";
import { toHex } from "@caisson/vocabulary/bytes";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { consoleEvidence } from "./console-evidence.ts";
import type { DevelopmentOwners } from "./development-owners.ts";
import { developmentPolicy, writeKmsPolicy } from "./development-policy.ts";
import type { FreshEvidence } from "./relying-party.ts";
import { claimState, execFile, instanceSeed, type PublishedPort, portsFile, writeWhole } from "./state.ts";
import { type VolumeDisk, volumeDisks } from "./volume-disks.ts";

/** This machine's loopback, as a guest behind QEMU's user networking sees it. */
const hostFromGuest = "10.0.2.2";

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
  const { image, references, state = `${image}.state` } = options;
  const ends: Ends = [await claimState(state)];
  const stop = (): Promise<void> => endEach(ends.splice(0).reverse());
  try {
    const placed = { ...options, state, volumes: volumeDisks(state, options.manifest.guest.app) };
    const { kms, policy, platform, given, ...around } = await startAround(placed, ends);
    const instance = { ...around.instance, ...given?.instance };
    return {
      ...(await startMachine(placed, instance, platform, ends)),
      kms,
      policy,
      references,
      collateral: platform.collateral,
      ...(given !== undefined && { release: given.release }),
      state,
      stop,
    };
  } catch (error) {
    // Why it could not start says more than what cannot be ended because of it.
    await stop().catch(() => undefined);
    throw error;
  }
}

/** What is to be ended, the first at last. */
type Ends = (() => Promise<unknown>)[];
/** A session whose state is its own, with the disks in it. */
type Placed = SessionOptions & { state: string; volumes: readonly VolumeDisk[] };

/** What the machine needs around it, and what it is told of that. */
async function startAround(options: Placed, ends: Ends) {
  const { manifest, references, hooks = {}, state } = options;
  const platform = simulatedPlatform(Date.now());
  const honest = developmentPolicy(manifest, references, platform.root);
  const accepted = hooks.policy?.(honest) ?? honest;
  const timeServers = await startTimeServers(hooks.timeServers ?? timeOperators, hostFromGuest);
  ends.push(() => timeServers.stop());
  writeKmsPolicy(state, manifest, references, accepted);
  const kms = await startOwnKms(options, platform.collateral);
  ends.push(() => kms.close());
  // An outsider sees the same machine as the KMS did, and also which KMS gave it its keys.
  const policy = { ...accepted, keyProviders: [{ name: "kms", id: kms.identityKey }] };
  writeWhole(join(state, "policy.json"), JSON.stringify(policy, null, 2));
  writeWhole(join(state, "references.json"), JSON.stringify(references, null, 2));
  const between = await hooks.kms?.(kms.url);
  if (between !== undefined) ends.push(() => between.close());
  const given = options.owners && (await askOwners(options.owners, options, kms));
  // What the owners just logged counts from the first request on.
  if (options.follow !== undefined) await kms.reload();
  const { port } = new URL(between?.url ?? kms.url);
  const instance: Pick<Instance, "kms" | "time" | "collateral"> = {
    kms: { url: `http://${hostFromGuest}:${port}`, identity: kms.identityKey },
    time: { sources: timeServers.servers.map(({ source }) => source) },
    collateral: platform.collateral,
  };
  return { platform, policy, kms, given, instance };
}

async function startMachine(
  options: Placed,
  told: Omit<Instance, "version" | "seed" | "challenge" | "exec">,
  platform: SimulatedPlatform,
  ends: Ends,
): Promise<Pick<Session, "vm" | "url" | "ports" | "volumes" | "evidence" | "accelerator">> {
  const { manifest, hooks = {}, state, volumes } = options;
  const { app } = manifest.guest;
  const challenge = randomBytes(32);
  const exec = { port: await freeTcpPort(), token: randomBytes(32).toHex() };
  const instance: Instance = {
    version: "caisson/instance/v1",
    seed: instanceSeed(state),
    challenge: toHex(challenge),
    exec: exec.token,
    ...told,
  };
  const ports = await hostPorts(app, options.port);
  ends.push(writeWhileItRuns(join(state, execFile), exec, 0o600));
  ends.push(writeWhileItRuns(join(state, portsFile), ports));
  const start: VmOptions = {
    ...machineOf(options),
    instance: encodeInstance(hooks.instance?.(instance) ?? instance),
    volumes: volumes.map(({ path }) => path),
    forwards: [
      ...ports.map(({ protocol, host, published }) => ({ protocol, host, guest: published })),
      { host: exec.port, guest: execPort },
    ],
    signQuote: platform.sign,
    accelerator: await accelerator(),
  };
  const vm = await Vm.start(hooks.machine?.(start) ?? start);
  ends.push(() => vm.powerDown(graceMs(app)));
  return {
    vm,
    ...urlOf(app, ports),
    ports,
    volumes,
    evidence: () => consoleEvidence(vm, challenge),
    accelerator: start.accelerator,
  };
}

/** The KMS of this session, with the root secret that the state keeps. */
function startOwnKms({ state, follow }: Placed, collateral: Collateral): Promise<Kms> {
  const [data, directory] = [join(state, "kms"), join(state, "collateral")];
  makeDirectory(directory);
  writeWhole(join(directory, "simulated.json"), JSON.stringify(collateral));
  if (!existsSync(join(data, dataFiles.rootSecret))) createRootSecret(data, { development: true });
  return startKms({
    data,
    policies: join(state, "policies"),
    host: "127.0.0.1",
    port: 0,
    development: true,
    collateral: directory,
    ...(follow !== undefined && { follow }),
  });
}

/** A file that is there while the session runs; what removes it. */
function writeWhileItRuns(path: string, content: object, mode?: number): () => Promise<void> {
  writeWhole(path, JSON.stringify(content), mode);
  return async () => rmSync(path, { force: true });
}

/** Of a machine, what follows from the image, and where its console goes. */
const machineOf = ({ image, manifest, shape, state, limitMs }: Placed) => ({
  shape,
  firmwareCode: join(image, manifest.firmware.emulated.code.file),
  firmwareVariables: join(image, manifest.firmware.emulated.variables.file),
  kernel: join(image, manifest.kernel.file),
  commandLine: manifest.commandLine,
  rootfs: join(image, manifest.rootfs.file),
  serialLog: join(state, "console.log"),
  ...(limitMs !== undefined && { limitMs }),
});

/** Where the application's main port is reached from this host. */
function urlOf(app: AppDescription, ports: readonly PublishedPort[]): Pick<Session, "url"> {
  const main = ports.find(({ protocol, published }) => protocol === "tcp" && published === mainPort(app));
  const scheme = app.front === undefined ? "http" : "https";
  return main === undefined ? {} : { url: `${scheme}://127.0.0.1:${main.host}/` };
}

/** One after the other, each whether the one before succeeded or not; throws what the first that failed threw. */
async function endEach(ends: Ends): Promise<void> {
  const failed: unknown[] = [];
  for (const end of ends) await end().catch((error: unknown) => failed.push(error));
  if (failed.length > 0) throw failed[0];
}
