// SPDX-License-Identifier: Apache-2.0
/**
 * A boot from files by themselves: a firmware with kernel, command line and perhaps initrd, or with a UKI. Nothing
 * vouches for them as a manifest does for an image's, so what they are is looked at before anything is predicted: a UKI
 * given as kernel, or a stub that measures otherwise than the one that is modelled, is refused.
 */

import { closeSync, openSync, readSync } from "node:fs";
import {
  type Files,
  InputError,
  type InputFile,
  type Machine,
  read,
  withMachine,
} from "@caisson/machine/prediction";
import { MeasureError, type PredictInput, parseTdxMetadata } from "@caisson/measure";
import { parsePe } from "@caisson/measure/authenticode";
import { firmwareIdentity, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { parseUki, stubName } from "@caisson/measure/uki";
import type { Platform, PlatformTable } from "@caisson/vocabulary/platforms";
import { UsageError } from "./failure.ts";

/** Paths, as the command's options name them. */
export interface LooseFiles {
  firmware?: string;
  /** edk2's stable release, where the firmware does not name it. */
  firmwareRelease?: string;
  /** The emulated machine's variable store. */
  variables?: string;
  kernel?: string;
  /** What QEMU gets with -append: printable ASCII. */
  commandLine?: string;
  initrd?: string;
  uki?: string;
  /** The UKI's disk, or its start. */
  disk?: string;
}

const optionNames = {
  firmware: "--firmware",
  kernel: "--kernel",
  uki: "--uki",
  commandLine: "--command-line",
  initrd: "--initrd",
  disk: "--disk",
  variables: "--variables",
  firmwareRelease: "--firmware-release",
  log: "--log",
} as const;

/** Throws UsageError unless the options say one thing: an image, a firmware alone, or a firmware with what it boots. */
export function checkCombination(image: string | undefined, options: LooseFiles & { log?: string }): void {
  const { firmware, kernel, commandLine, uki, disk } = options;
  const given = (...names: (keyof typeof optionNames)[]) => {
    const name = names.find((name) => options[name] !== undefined);
    return name && optionNames[name];
  };
  const refuse = (wrong: boolean, message: string, fix: string) => {
    if (wrong) throw new UsageError(message, fix);
  };
  const file = given(
    "firmware",
    "kernel",
    "uki",
    "commandLine",
    "initrd",
    "disk",
    "variables",
    "firmwareRelease",
  );
  if (image !== undefined) {
    const fix = "give IMAGE alone, or instead of it --firmware with --kernel or --uki";
    return refuse(file !== undefined, `an image has its own files: ${file} cannot stand beside IMAGE`, fix);
  }
  refuse(file === undefined, "one of IMAGE and --firmware is needed", "caisson measure --help");
  refuse(firmware === undefined, `${file} needs the firmware that boots`, "add --firmware FILE");
  refuse(
    kernel !== undefined && uki !== undefined,
    "--kernel and --uki are two boots",
    "give --kernel for what QEMU gets with -kernel, --uki for a unified kernel image on a disk",
  );
  const ofKernel = given("commandLine", "initrd");
  if (uki !== undefined) {
    refuse(ofKernel !== undefined, "a UKI has its own command line and initrd", `leave out ${ofKernel}`);
  } else {
    refuse(disk !== undefined, "--disk is a UKI's", "add --uki FILE, or leave out --disk");
  }
  if (kernel !== undefined) {
    const fix = "add --command-line TEXT; '' where QEMU gets no -append";
    refuse(commandLine === undefined, "--kernel needs its command line", fix);
    refuse(
      !/^[ -~]*$/.test(commandLine!),
      "--command-line is not printable ASCII, and what a firmware makes of anything else is not known",
      "give exactly the text after QEMU's -append",
    );
  } else if (uki === undefined) {
    refuse(ofKernel !== undefined, `${ofKernel} needs a kernel`, "add --kernel FILE");
    const ofBoot = given("variables", "firmwareRelease", "log");
    const fix = `add --kernel FILE or --uki FILE, or leave out ${ofBoot}`;
    refuse(ofBoot !== undefined, `a firmware alone gives MRTD, in which ${ofBoot} has no part`, fix);
  }
}

/** Everything that the prediction of these files needs. Their combination has passed `checkCombination`. */
export async function gatherFiles(
  options: LooseFiles & Machine,
): Promise<{ input: PredictInput; files: Files }> {
  const open = (path: string): InputFile => ({ path, bytes: read(path) });
  const firmware = open(options.firmware!);
  const platform = choosePlatform(firmware, options);
  const release = options.firmwareRelease ?? firmwareIdentity(ovmfVolumes(firmware.bytes).dxe)?.version;
  if (release === undefined) {
    throw new UsageError(
      `${firmware.path} does not say which edk2 it was built from`,
      "add --firmware-release, such as 202502",
    );
  }
  const { boot, files } = options.kernel === undefined ? ukiBoot(options) : directBoot(options);
  const named = options.firmwareRelease === undefined ? `${release}, as the firmware names itself` : release;
  return withMachine(
    {
      platform,
      firmware,
      firmwareRelease: release,
      ...(options.variables !== undefined && { variables: open(options.variables) }),
      boot,
      files: {
        release: named,
        ...(options.variables !== undefined && { variables: options.variables }),
        ...files,
      },
      ...(options.kernel !== undefined && { kernel: options.kernel }),
    },
    options,
  );
}

/** Whether a platform's firmware has its variables in a store beside the code, or in its one file. */
const variableStore: PlatformTable<boolean> = { tdx: false, emulated: true };

function choosePlatform(firmware: InputFile, { platform, variables }: LooseFiles & Machine): Platform {
  const store = "add --variables FILE, the store beside the firmware's code (OVMF_VARS.fd)";
  if (platform !== undefined) {
    const wanted = variableStore[platform];
    if (!wanted && variables !== undefined) {
      throw new UsageError(
        "a TD's variables are in its firmware",
        `leave out --variables, or --platform ${platform}`,
      );
    }
    if (wanted && variables === undefined) {
      throw new UsageError(`the ${platform} platform needs its variable store`, store);
    }
    return platform;
  }
  if (variables !== undefined) return "emulated";
  try {
    parseTdxMetadata(firmware.bytes);
    return "tdx";
  } catch (error) {
    if (!(error instanceof MeasureError)) throw error;
    throw new UsageError(
      `${firmware.path} is not a firmware of a TD: ${error.message}`,
      `${store}, for the emulated platform`,
    );
  }
}

type BootFiles = { boot: PredictInput["boot"]; files: Files };

function directBoot({
  kernel: path,
  commandLine,
  initrd,
  acpi,
  qemuVersion,
}: LooseFiles & Machine): BootFiles {
  const kernel = read(path!);
  if (parsePe(kernel).sections.some(({ name }) => name === ".linux")) {
    throw new UsageError(`${path} is a UKI`, "give it with --uki");
  }
  const asked = acpi === undefined && qemuVersion === undefined;
  return {
    boot: {
      method: "direct",
      kernel,
      commandLine: commandLine!,
      ...(initrd !== undefined && { initrd: read(initrd) }),
    },
    files: {
      kernel: path!,
      "command line": "as given with --command-line",
      ...(initrd !== undefined && { initrd }),
      ...(asked && { devices: "those that `caisson up` gives a guest; of another machine: --acpi" }),
    },
  };
}

/** systemd-stub 262 measures otherwise, and which versions do as 257 was not tried (docs/measurement.md). */
const modelledStub = /^systemd-stub 257\b/;
/** A partition table's sectors are the disk's first; 1 MiB holds every usual one. */
const DISK_START = 1 << 20;

function ukiBoot({ uki, disk, acpi }: LooseFiles & Machine): BootFiles {
  const image = read(uki!);
  const stub = stubName(parseUki(image)) ?? "a stub that does not name itself";
  if (!modelledStub.test(stub)) {
    throw new MeasureError("prediction/profile", `${uki} was made with ${stub}`, {
      kind: "unsupported",
      facts: [["known", "systemd-stub 257; others measure other things"]],
      fix: "make the UKI with the stub of systemd 257",
    });
  }
  const start = disk === undefined ? undefined : readStart(disk);
  return {
    boot: {
      method: "uki",
      image,
      sectionsMeasured: true,
      ...(start !== undefined && { disk: start, sectorSize: sectorSize(start) }),
    },
    files: {
      uki: `${uki}, ${stub}`,
      disk: disk ?? "not given: --disk",
      ...(acpi === undefined && {
        devices: "not known: `caisson up` starts no UKI; of the guest's machine: --acpi",
      }),
    },
  };
}

function readStart(path: string): Uint8Array {
  const start = new Uint8Array(DISK_START);
  try {
    const file = openSync(path, "r");
    try {
      return start.subarray(0, readSync(file, start));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw new InputError(
      `${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`,
      "check the path",
    );
  }
}

/** Its header is the second sector of a disk. */
const sectorSize = (disk: Uint8Array): 512 | 4096 =>
  Buffer.from(disk.subarray(4096, 4104)).toString("latin1") === "EFI PART" ? 4096 : 512;
