// SPDX-License-Identifier: Apache-2.0
/**
 * A production machine, from an image to what its host, its KMS and its relying parties each need: the instance document,
 * QEMU's exact arguments, and the two policies that accept this machine and no other.
 */
import { createHash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tdxDomain } from "@caisson/host/libvirt";
import { type Shape, type TdxParts, tdxMachine } from "@caisson/host/machine";
import type { Manifest } from "@caisson/image";
import {
  applicationId,
  description,
  mainPort,
  persistentVolumes,
  publishedPorts,
  secretNames,
} from "@caisson/protocol/guest-config";
import { composeHash, IDENTITY_SIZE } from "@caisson/protocol/identity";
import { encodeInstance, type Instance } from "@caisson/protocol/instance";
import { type Collateral, type Reference, referenceRegisters } from "@caisson/verify";
import { toHex } from "@caisson/vocabulary/bytes";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { Failure } from "@caisson/vocabulary/failure";
import { sequenceOf } from "./development-policy.ts";
import { instanceSeed } from "./state.ts";
import { volumeDisks } from "./volume-disks.ts";

/** Vsock port of Intel's quote generation service, its default. */
const quotePort = 4050;

/** The KMS that the machine asks for its keys. */
export interface KmsAddress {
  url: string;
  /** 32 bytes, hex (`caisson kms identity`); what the image pins when left out. */
  identity?: string;
}

export interface ProductionOptions {
  /** The image directory, and its manifest. */
  image: string;
  manifest: Manifest;
  shape: Shape;
  /** The register values that this machine may have (`predictProduction`). */
  references: readonly Reference[];
  /** Host port of the application's main port; the same number when left out. */
  port?: number;
  kms?: KmsAddress;
  /** What its owners give it: the bundle of its release, and their sealed secrets. */
  given?: Pick<Instance, "release" | "secrets">;
  /** Intel's collateral for the host, which the machine's evidence carries. */
  collateral?: StapledCollateral;
}

/** Collateral that was verified, and when its first part expires (ms since 1970). */
export interface StapledCollateral {
  document: Collateral;
  validUntil: number;
}

export interface Production {
  /** QEMU's arguments; the program is `qemu-system-x86_64`, 10.1 or newer. */
  arguments: string[];
  /** The same machine as a domain of libvirt, for `virsh create`. */
  domain: { file: string; xml: string };
  /** 48 bytes, hex: what a verifier expects in MRCONFIGID. */
  mrConfigId: string;
  /** For relying parties: policy and reference values. */
  policy: string;
  references: string;
  /** For `caisson kms serve --policy-dir`; missing where the machine has no KMS. */
  kmsPolicies?: string;
  /** QEMU's control socket, once it runs. */
  qmpSocket: string;
  /** Registers that could not be predicted: as it stands, the policy refuses every machine. */
  open: string[];
  /** What a KMS wants of its owners, and they have not given: as it stands, it gives the machine nothing. */
  missing: ("release" | "secrets")[];
  /** Until when its evidence needs no other collateral, ISO 8601; missing where it carries none. */
  collateralUntil?: string;
}

/** What the command line says of a KMS, and the image does not allow. */
export class ProductionError extends Failure<"production/kms", "usage"> {
  override readonly name = "ProductionError";
  constructor(message: string, fix: string) {
    super("production/kms", "usage", message, { fix });
  }
}

/**
 * MRCONFIGID of an image: 01 ‖ compose hash ‖ zeros, or 02 ‖ app id ‖ zeros for an application with an identity; 48
 * bytes. The host sets it, the quote carries it, so a verifier sees before the first event which application the host
 * meant to start, and a policy that names it outlives upgrades where the application does.
 */
export function mrConfigId(manifest: Manifest): Uint8Array {
  const value = new Uint8Array(48);
  const id = applicationId(manifest.guest);
  const hasIdentity = id.length === IDENTITY_SIZE;
  value[0] = hasIdentity ? 2 : 1;
  value.set(hasIdentity ? id : composeHash(description(manifest.guest)), 1);
  return value;
}

/**
 * The KMS's identity, from the command line or pinned in the image. Throws ProductionError when they disagree or
 * neither is there.
 */
function kmsIdentity({ guest }: Manifest, kms: KmsAddress): string {
  const pinned = guest.kms?.identity;
  if (kms.identity !== undefined && pinned !== undefined && kms.identity !== pinned) {
    throw new ProductionError(
      `the image accepts the KMS ${pinned} alone, not ${kms.identity}`,
      "name the KMS that the image pins, or build the image with another kms.identity",
    );
  }
  const identity = kms.identity ?? pinned;
  if (identity === undefined) {
    throw new ProductionError(
      "a KMS is named without its identity",
      "--kms-identity HEX, as `caisson kms identity` prints it",
    );
  }
  return identity;
}

/** Registers for which some reference has neither a value nor, for RTMR0, its events. */
function unpredicted(references: readonly Reference[]): string[] {
  return referenceRegisters.filter((name) =>
    references.some(
      ({ registers, rtmr0Events }) =>
        registers[name] === undefined && !(name === "rtmr0" && rtmr0Events !== undefined),
    ),
  );
}

/** Whether RTMR0 is known by its events alone. */
const byEventAlone = (references: readonly Reference[]): boolean =>
  references.some(({ registers, rtmr0Events }) => registers.rtmr0 === undefined && rtmr0Events !== undefined);

function missingOf({ manifest, kms, given = {} }: ProductionOptions): Production["missing"] {
  const { app } = manifest.guest;
  if (kms === undefined || app.identity === undefined) return [];
  const wanted = secretNames(app).length > 0 ? (["release", "secrets"] as const) : (["release"] as const);
  return wanted.filter((name) => given[name] === undefined);
}

/** The references as a document that `readReferences` takes. */
function referencesText(references: readonly Reference[]): string {
  const tuples = references.map(({ name, registers, rtmr0Events }) => [
    name,
    { ...registers, ...(rtmr0Events !== undefined && { rtmr0Events }) },
  ]);
  return `${JSON.stringify({ tdx: Object.fromEntries(tuples) }, null, 2)}\n`;
}

/** YAML of a policy with what each line means. The KMS decides about key provider and nonce itself. */
function policyText(
  { manifest, references, shape }: ProductionOptions,
  identity: string | undefined,
  forKms: boolean,
): string {
  const id = Buffer.from(mrConfigId(manifest)).toString("hex");
  const app = Buffer.from(composeHash(description(manifest.guest))).toString("hex");
  const byEvent = byEventAlone(references);
  const { sequence } = sequenceOf(manifest);
  const volumes = persistentVolumes(manifest.guest.app);
  const lines = [
    "version: caisson/policy/v1",
    `description: ${JSON.stringify(`${manifest.name}, production, ${shape.vcpus} vCPUs, ${shape.memory} MiB`)}`,
    "# Intel TDX alone; evidence of any other platform is refused.",
    "platforms: [tdx]",
    "tcb:",
    "  # Only platforms that are up to date are accepted. Raise this to the number that you demand at least.",
    "  minimumEvaluationNumber: any",
    '# Which machines: any that is genuine. To name yours, list their PPIDs ("caisson verify --json" shows them).',
    "platformIdentities: any",
    "td:",
    "  # The host says with it which application it means to start: 01, the compose hash, zeros.",
    `  mrConfigId: ["${id}"]`,
    ...(byEvent
      ? [
          "registers:",
          "  # Everything in RTMR0 but the one event that names the host's processor (SMBIOS).",
          "  rtmr0: by-event",
        ]
      : []),
    "app:",
    ...(manifest.guest.app.identity === undefined
      ? [`  id: ["${toHex(applicationId(manifest.guest))}"]`, `  composeHash: ["${app}"]`]
      : [
          "  # Whose releases say which images run; evidence carries them.",
          `  identity: { id: "${manifest.guest.app.identity}" }`,
        ]),
    "  # Any instance of it; list instance ids to accept only those.",
    "  instanceId: any",
    ...(volumes.length === 0
      ? []
      : [
          "# The disks that outlive it; seeds: [HEX, …] accepts those of certain instances alone.",
          `volumes: { names: [${volumes.join(", ")}] }`,
        ]),
    ...(manifest.guest.time.secure_time
      ? []
      : ["# The image asks no time servers: its clock is the host's.", "secureTime: any"]),
    ...(byEvent || sequence !== undefined ? ["events:"] : []),
    ...(byEvent ? ["  bootLog: required"] : []),
    ...(sequence === undefined ? [] : [`  sequence: [${sequence.join(", ")}]`]),
  ];
  if (!forKms) {
    lines.push(
      identity === undefined
        ? '# The machine has no KMS.\nkeyProviders: [{ name: none, id: "" }]'
        : `# The KMS that gave it its keys.\nkeyProviders: [{ name: kms, id: "${identity}" }]`,
    );
  }
  return `${lines.join("\n")}\n`;
}

/** A KMS's policy file: the policy, indented below what the KMS itself needs. */
function kmsPolicyText(options: ProductionOptions, references: string): string {
  const sha256 = createHash("sha256").update(references).digest("hex");
  const inner = policyText(options, undefined, true).replace(/^(?=.)/gm, "  ");
  return [
    "version: caisson/kms-policy/v1",
    `app: "${toHex(applicationId(options.manifest.guest))}"`,
    "keyVersion: 1",
    "# The reference values that count, by the SHA-256 of their file in manifests/.",
    `manifests: ["${sha256}"]`,
    `policy:\n${inner}`,
  ].join("\n");
}

/** Writes policies and reference values of whoever verifies, and of the KMS where there is one; their places. */
function writeRules(
  options: ProductionOptions,
  state: string,
  identity: string | undefined,
): Pick<Production, "policy" | "references" | "kmsPolicies"> {
  const texts = referencesText(options.references);
  const relying = join(state, "relying-party");
  makeDirectory(relying);
  const policy = join(relying, "policy.yaml");
  const references = join(relying, "references.json");
  writeFileSync(policy, policyText(options, identity, false));
  writeFileSync(references, texts);
  const kmsPolicies = join(state, "kms-policies");
  rmSync(kmsPolicies, { recursive: true, force: true });
  if (options.kms === undefined) return { policy, references };
  makeDirectory(join(kmsPolicies, "manifests"), 0o755);
  writeFileSync(join(kmsPolicies, "manifests", "references.json"), texts);
  writeFileSync(join(kmsPolicies, `${options.manifest.name}.yaml`), kmsPolicyText(options, texts));
  return { policy, references, kmsPolicies };
}

/** What the TD is put together from; `device` is its instance disk. */
function tdxParts({ image, manifest, port }: ProductionOptions, state: string, device: string): TdxParts {
  const main = mainPort(manifest.guest.app);
  return {
    kernel: join(image, manifest.kernel.file),
    commandLine: manifest.commandLine,
    rootfs: join(image, manifest.rootfs.file),
    instance: device,
    volumes: volumeDisks(state, manifest.guest.app).map(({ path }) => path),
    qmpSocket: join(state, "qmp.sock"),
    forwards: publishedPorts(manifest.guest.app).map(({ protocol, published }) => ({
      protocol,
      host: protocol === "tcp" && published === main ? (port ?? published) : published,
      guest: published,
    })),
    firmware: join(image, manifest.firmware.tdx.code.file),
    mrConfigId: mrConfigId(manifest),
    quotePort,
  };
}

/**
 * Writes what the machine needs into `<image>.state/` and says how to start it. The instance is the same each time.
 * Throws ProductionError.
 */
export function prepareProduction(options: ProductionOptions): Production {
  const { image, manifest, shape, kms, collateral } = options;
  const identity = kms && kmsIdentity(manifest, kms);
  const state = `${image}.state`;
  makeDirectory(state, 0o700);
  const instance: Instance = {
    version: "caisson/instance/v1",
    seed: instanceSeed(state),
    ...(kms !== undefined && { kms: { url: kms.url, identity: identity! } }),
    ...(collateral !== undefined && { collateral: collateral.document }),
    ...options.given,
  };
  const device = join(state, "instance.img");
  writeFileSync(device, encodeInstance(instance));
  const rules = writeRules(options, state, identity);

  const parts = tdxParts(options, state, device);
  const xml = tdxDomain(shape, { ...parts, name: manifest.name, console: join(state, "console.log") });
  const domain = { file: join(state, "domain.xml"), xml };
  writeFileSync(domain.file, xml);
  return {
    arguments: tdxMachine(shape, parts),
    domain,
    mrConfigId: Buffer.from(parts.mrConfigId).toString("hex"),
    ...rules,
    qmpSocket: parts.qmpSocket,
    open: unpredicted(options.references),
    missing: missingOf(options),
    ...(collateral !== undefined && { collateralUntil: new Date(collateral.validUntil).toISOString() }),
  };
}
