// SPDX-License-Identifier: Apache-2.0
/**
 * What a boot will measure: an image's files, or files by themselves (loose-files.ts), a machine's shape and the host's
 * QEMU, gathered for `predict`. `caisson measure` shows it; a session takes its reference values from it.
 */

import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { accelerator } from "@caisson/host/accelerator";
import { type FwCfgFiles, imageFwCfg, measuredFiles, qemuVersion } from "@caisson/host/fw-cfg";
import type { Shape } from "@caisson/host/machine";
import { leastQemu } from "@caisson/host/tdx";
import { cacheDirectory } from "@caisson/image/fetch";
import { flavourPlatform, readManifest } from "@caisson/image/manifest";
import { ACPI_TABLES, type PredictInput, type Prediction, predict } from "@caisson/measure";
import { firmwareIdentity, firmwareTraits, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { SMBIOS_TABLES, withProcessor } from "@caisson/measure/smbios";
import { readVariableStore } from "@caisson/measure/variables";
import { persistentVolumes } from "@caisson/protocol/guest-config";
import { type Reference, readReferences } from "@caisson/verify";
import { Failure } from "@caisson/vocabulary/failure";
import { type Platform, provesHardware } from "@caisson/vocabulary/platforms";

/** The machine of a prediction. */
export interface Machine {
  /** Default: `flavourPlatform`; without an image what its firmware is for. */
  platform?: Platform;
  vcpus: number;
  /** Bytes. */
  memory: number;
  /** Disks of persistent volumes. Default: the image's. */
  volumes?: number;
  /** The host's QEMU; ACPI and SMBIOS tables are read out of it unless `acpi` is given. */
  qemu: string;
  qemuVersion?: string;
  /** ACPI tables as the guest's fw_cfg has them: the tables blob, or a directory `by_name` (SMBIOS too). */
  acpi?: string;
  /** The processor's ID as the guest's SMBIOS has it, 8 bytes; needed where the guest's processor is its host's. */
  processorId?: Uint8Array;
}

/** An error of the command line's files, with the file's name. */
export class InputError extends Failure<"measure/input", "input"> {
  override readonly name = "InputError";
  constructor(message: string, fix: string) {
    super("measure/input", "input", message, { fix });
  }
}

export function read(path: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    throw new InputError(
      `${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`,
      "check the path",
    );
  }
}

/** Which file each source of a prediction is. */
export type Files = Record<string, string>;

/** A file as it was read. */
export interface InputFile {
  path: string;
  bytes: Uint8Array;
}

/** A firmware and what it boots. */
export interface Boot {
  platform: Platform;
  firmware: InputFile;
  firmwareRelease: string;
  /** Emulated: the variable store. */
  variables?: InputFile;
  boot: PredictInput["boot"];
  /** Where `boot` comes from. */
  files: Files;
  /** A kernel for the QEMU that is asked for its tables; without one, only `acpi` has them. */
  kernel?: string;
}

/** Everything that the prediction of an image needs, from its directory and the host's QEMU. */
export async function imageInputs(
  image: string,
  options: Machine,
): Promise<{ input: PredictInput; files: Files }> {
  const manifest = readManifest(image);
  const platform = options.platform ?? flavourPlatform[manifest.flavour];
  const { variables } = manifest.firmware[platform];
  const checked = (artefact: { file: string; sha256: string }): InputFile => {
    const path = join(image, artefact.file);
    const bytes = read(path);
    if (createHash("sha256").update(bytes).digest("hex") !== artefact.sha256) {
      throw new InputError(`${path} is not the file that the manifest names`, "build the image again");
    }
    return { path, bytes };
  };
  const kernel = checked(manifest.kernel);
  const { firmware, versions, commandLine } = manifest;
  return withMachine(
    {
      platform,
      firmware: checked(firmware[platform].code),
      firmwareRelease: versions.firmware[platform],
      ...(variables !== undefined && { variables: checked(variables) }),
      boot: { method: "direct", kernel: kernel.bytes, commandLine },
      files: { kernel: kernel.path, "command line": join(image, "manifest.json") },
      kernel: kernel.path,
    },
    { volumes: persistentVolumes(manifest.guest.app).length, ...options },
  );
}

/** A boot on a machine: with what the host's QEMU, or `acpi`, says of that machine. */
export async function withMachine(
  { platform, firmware, firmwareRelease, variables, boot, files, kernel }: Boot,
  options: Machine,
): Promise<{ input: PredictInput; files: Files }> {
  const qemu = { program: options.qemu };
  const { vcpus, memory, volumes = 0 } = options;
  const shape = { vcpus, memory: memory / 2 ** 20, volumes };
  const here = options.qemuVersion ?? (await qemuVersion(qemu));
  // What a QEMU that cannot start a TD would measure is not a TD's: its version and its tables do not count.
  const unable = provesHardware[platform] && options.qemuVersion === undefined && olderThan(here, leastQemu);
  const version = unable ? `${leastQemu.join(".")}.0` : here;
  let fwCfg: FwCfgFiles | undefined;
  let hostProcessor = false;
  if (options.acpi !== undefined) fwCfg = readFwCfg(options.acpi);
  else if (options.qemuVersion === undefined && !unable && kernel !== undefined) {
    const machine = {
      platform,
      shape,
      kernel,
      firmware: firmware.path,
      ...(variables !== undefined && { variables: variables.path }),
    };
    fwCfg = await imageFwCfg(qemu, machine, join(cacheDirectory(process.env), "fw-cfg"));
    hostProcessor = provesHardware[platform] || (await accelerator()) === "kvm";
  }
  const smbios = smbiosTables(fwCfg, hostProcessor, options.processorId);
  const hidden = smbios === undefined && fwCfg?.[SMBIOS_TABLES] !== undefined;
  const missing = unable
    ? `not given; ${options.qemu} ${here} cannot start a TD: --qemu, --acpi`
    : "not given";
  const from = options.acpi ?? (fwCfg === undefined ? missing : `${options.qemu} ${version}`);
  return {
    files: {
      firmware: firmware.path,
      ...files,
      acpi: from,
      smbios: hidden
        ? "not given; it names the host's processor, in a TD and under KVM: --processor-id"
        : smbios === undefined
          ? "not given"
          : from,
      machine: `${options.vcpus} vCPUs, ${shape.memory} MiB`,
    },
    input: {
      platform,
      firmware: firmware.bytes,
      firmwareRelease,
      ...firmwareContents(firmware.bytes, variables?.bytes),
      boot,
      memory: options.memory,
      qemu: version,
      ...(fwCfg !== undefined && { acpi: fwCfg }),
      ...(smbios !== undefined && { smbios }),
      ...(fwCfg?.["bootorder"] && { fwCfg: { BootMenu: new Uint8Array(2), ...fwCfg } }),
      ...(variables !== undefined && { variables: variables.bytes }),
    },
  };
}

/**
 * SMBIOS as the guest gets it. In a TD and under KVM type 4 names the host's processor (`hostProcessor`): tables that
 * QEMU wrote here for TCG's are worth nothing until that is put right. The ID cannot be made up from /proc/cpuinfo: half
 * of it is the features that this QEMU and KVM leave the guest.
 */
export function smbiosTables(
  fwCfg: FwCfgFiles | undefined,
  hostProcessor: boolean,
  processorId: Uint8Array | undefined,
): Uint8Array | undefined {
  const tables = fwCfg?.[SMBIOS_TABLES];
  if (tables !== undefined && processorId !== undefined) return withProcessor(tables, processorId);
  return hostProcessor ? undefined : tables;
}

/** What only the decompressed firmware shows: volumes of PCR 0, what it says of itself, whether it has Secure Boot. */
function firmwareContents(
  firmware: Uint8Array,
  variables: Uint8Array | undefined,
): Pick<PredictInput, "identity" | "volumes" | "secureBoot"> {
  // One walk: each decompresses the firmware.
  const { all, ...volumes } = ovmfVolumes(firmware);
  const identity = firmwareIdentity(volumes.dxe);
  const enrolled = [...readVariableStore(variables ?? firmware).keys()].some((key) => key.startsWith("PK-"));
  const off = !enrolled && firmwareTraits(all).secureBoot;
  return { volumes, ...(identity !== undefined && { identity }), ...(off && { secureBoot: "off" }) };
}

/** An ACPI tables blob, or a directory like the guest's /sys/firmware/qemu_fw_cfg/by_name (files may be NAME/raw). */
export function readFwCfg(path: string): FwCfgFiles {
  const stat = (at: string) => statSync(at, { throwIfNoEntry: false });
  if (stat(path)?.isDirectory() !== true) return { [ACPI_TABLES]: read(path) };
  const files: Record<string, Uint8Array> = {};
  for (const name of measuredFiles) {
    const file = [join(path, name), join(path, name, "raw")].find((at) => stat(at)?.isFile());
    if (file !== undefined) files[name] = read(file);
  }
  if (files[ACPI_TABLES] === undefined) {
    throw new InputError(`${path} holds no ${ACPI_TABLES}`, "give a copy of the guest's by_name directory");
  }
  return files;
}

/** Whether a version such as "7.2.22" is below [major, minor]. */
function olderThan(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split(".").map(Number);
  return ownMajor < major || (ownMajor === major && ownMinor < minor);
}

/**
 * The register values of a production image on the machine that `prepareProduction` describes: one tuple for each order
 * in which a host may add pages. RTMR0 is among them by event where the host's processor keeps its value open.
 */
export async function predictProduction(
  image: string,
  shape: Shape,
  host: Pick<Machine, "qemu" | "acpi" | "qemuVersion" | "processorId">,
): Promise<Reference[]> {
  const machine = { ...host, platform: "tdx", vcpus: shape.vcpus, memory: shape.memory * 2 ** 20 } as const;
  const prediction = await predict((await imageInputs(image, machine)).input);
  return readReferences(prediction, `${shape.vcpus} vCPUs, ${shape.memory} MiB`);
}

/** The registers of an image on the emulated machine, as this host would run it. */
export async function predictEmulated(image: string, shape: Shape): Promise<Prediction> {
  const machine = { vcpus: shape.vcpus, memory: shape.memory * 2 ** 20, qemu: "qemu-system-x86_64" };
  return predict((await imageInputs(image, { platform: "emulated", ...machine })).input);
}

/**
 * The registers that a prediction could determine, by name: a reference tuple. Where the host's processor keeps RTMR0
 * open, its events stand in for it.
 */
export function referenceValues(prediction: Prediction): Record<string, string | readonly string[]> {
  const values = Object.entries(prediction.registers).map(([name, { value }]) => [name, value] as const);
  const known = values.filter((entry): entry is [string, string] => entry[1] !== undefined);
  const tuple: Record<string, string | readonly string[]> = Object.fromEntries(known);
  const [reference] = readReferences(prediction, "prediction");
  if (tuple.rtmr0 === undefined && reference?.rtmr0Events !== undefined) {
    tuple.rtmr0Events = reference.rtmr0Events;
  }
  return tuple;
}
