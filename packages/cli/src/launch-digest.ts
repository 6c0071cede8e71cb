// SPDX-License-Identifier: Apache-2.0
/** `caisson measure --sev-snp`: the launch digest of a SEV-SNP guest from files, step by step. */
import { read } from "@caisson/machine/prediction";
import {
  cpuModels,
  cpuSignature,
  type LaunchPrediction,
  predictLaunch,
  type Vmm,
} from "@caisson/measure/launch-digest";
import { InvalidArgumentError } from "commander";
import { UsageError } from "./failure.ts";
import { checkCombination, type LooseFiles } from "./loose-files.ts";

export interface LaunchOptions {
  sevSnp?: boolean;
  vmm: Vmm;
  cpu: string;
  sevFeatures: bigint;
}

export function parseFeatures(text: string): bigint {
  if (!/^(?:0x)?[0-9a-fA-F]{1,16}$/.test(text))
    throw new InvalidArgumentError("expected at most 16 hexadecimal digits");
  return BigInt(`0x${text.replace(/^0x/, "")}`);
}

/** What `launchDigest` is predicted for, beside it: enough to see whether a machine is the one that was meant. */
export type Launch = LaunchPrediction & {
  tee: "sev-snp";
  vmm: Vmm;
  vcpus: number;
  cpu: string;
  sevFeatures: string;
  kernelHashes: boolean;
};

/** Throws UsageError for options that do not go together, MeasureError as `predictLaunch` does. */
export async function launchDigest(
  image: string | undefined,
  options: LaunchOptions & LooseFiles & { vcpus: number; log?: string },
): Promise<Launch> {
  if (image !== undefined) {
    throw new UsageError(
      "an image of Caisson's is not built for SEV-SNP",
      "give --firmware, and --kernel with --command-line where QEMU hashes them (kernel-hashes=on)",
    );
  }
  checkCombination(image, options);
  const { firmware, kernel, initrd, commandLine, vmm, vcpus, cpu, sevFeatures, uki, log } = options;
  const beside = uki !== undefined ? "--uki" : log !== undefined ? "--log" : undefined;
  if (beside !== undefined) {
    throw new UsageError(
      `${beside} has no part in a launch digest`,
      "leave it out: SNP measures what is there before the guest runs",
    );
  }
  const signature = cpuSignature(cpu);
  if (signature === undefined && vmm === "qemu") {
    throw new UsageError(`no model '${cpu}' is known`, `--cpu ${Object.keys(cpuModels).join(", ")}`);
  }
  const prediction = await predictLaunch({
    firmware: read(firmware!),
    vmm,
    vcpus,
    cpuSignature: signature ?? 0,
    sevFeatures,
    ...(kernel !== undefined && {
      kernel: {
        kernel: read(kernel),
        initrd: initrd === undefined ? undefined : read(initrd),
        commandLine: commandLine!,
      },
    }),
  });
  return {
    tee: "sev-snp",
    vmm,
    vcpus,
    cpu: vmm === "qemu" ? cpu : "of no account",
    sevFeatures: `0x${sevFeatures.toString(16)}`,
    kernelHashes: kernel !== undefined,
    ...prediction,
  };
}

export function renderLaunch(launch: Launch): string {
  const { launchDigest: digest, vmm, vcpus, cpu, sevFeatures, kernelHashes, steps } = launch;
  return [
    `launch digest  ${digest}`,
    `machine        ${vmm}, ${vcpus} vCPU, CPU model ${cpu}, SEV_FEATURES ${sevFeatures}`,
    kernelHashes
      ? "kernel         hashed into the firmware's page: QEMU with kernel-hashes=on"
      : "kernel         NOT MEASURED: the digest covers the firmware and the processors' state alone",
    "",
    ...steps.map(
      ({ what, address, pages, digest: after }) =>
        `  ${after.slice(0, 16)}  ${what.padEnd(26)} ${pages} ${pages === 1 ? "page" : "pages"} at 0x${address.toString(16)}`,
    ),
    "",
  ].join("\n");
}
