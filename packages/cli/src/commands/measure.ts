// SPDX-License-Identifier: Apache-2.0
/** `caisson measure`: what the registers must hold before anything boots, from an image or from files by themselves. */

import { createHash } from "node:crypto";
import { imageInputs, type Machine, read } from "@caisson/machine/prediction";
import {
  type Comparison,
  explainLog,
  type Indexing,
  measuredEvents,
  mrtd,
  type PredictInput,
  type Prediction,
  parseEventLog,
  parseTdxMetadata,
  predict,
} from "@caisson/measure";
import { assumptions } from "@caisson/measure/assumptions";
import { vmms } from "@caisson/measure/launch-digest";
import { guessIndexing } from "@caisson/measure/tpm-log";
import { isQuote } from "@caisson/verify";
import { readEvidence } from "@caisson/verify/every-form";
import { platforms } from "@caisson/vocabulary/platforms";
import { Command, InvalidArgumentError, Option } from "commander";
import { exitCodes } from "../exit-codes.ts";
import { UsageError } from "../failure.ts";
import { type LaunchOptions, launchDigest, parseFeatures, renderLaunch } from "../launch-digest.ts";
import { checkCombination, gatherFiles, type LooseFiles } from "../loose-files.ts";
import { memoryOption } from "../machine-options.ts";
import { whole } from "../number-options.ts";
import { jsonText } from "../views/answer.ts";
import { renderComparison, renderPrediction } from "../views/prediction-view.ts";

interface Options extends Machine, LooseFiles, LaunchOptions {
  log?: string;
  indexing?: Indexing;
  json?: boolean;
}

/** "F8 06 08 00 FF FB 8B 1F", with or without spaces. */
function parseProcessorId(text: string): Uint8Array {
  const digits = text.replaceAll(" ", "");
  if (!/^[0-9a-fA-F]{16}$/.test(digits)) throw new InvalidArgumentError("expected 8 bytes in hexadecimal");
  return new Uint8Array(Buffer.from(digits, "hex"));
}

export const command = new Command("caisson measure")
  .description(
    "Predicts what registers must hold, from an image or from files by themselves; or compares a boot's log with that (exit code 10: it differs).",
  )
  .argument("[image]", "an image directory, as `caisson build` makes it")
  .option("--firmware <FILE>", "without an image: the firmware; alone it gives MRTD")
  .option("--kernel <FILE>", "what that firmware boots: a kernel, as QEMU gets it with -kernel")
  .option(
    "--command-line <TEXT>",
    "exactly what QEMU gets with -append, without the initrd=initrd that the firmware adds to it for an --initrd",
  )
  .option("--initrd <FILE>", "what QEMU gets with -initrd")
  .option("--uki <FILE>", "or: a unified kernel image (systemd-stub 257) on a disk")
  .option("--disk <FILE>", "the UKI's disk, for its partition table")
  .option("--variables <FILE>", "the variable store beside a firmware's code: the emulated platform")
  .option(
    "--firmware-release <NAME>",
    "edk2's release, such as 202502; default: as the firmware names itself",
  )
  .addOption(
    new Option(
      "--platform <NAME>",
      "default: what the image's flavour boots on; for files tdx, emulated with --variables",
    ).choices(platforms),
  )
  .option("--vcpus <N>", "virtual CPUs", whole(1, 9999), 2)
  .option(
    "--sev-snp",
    "the launch digest of a SEV-SNP guest instead of registers: --firmware, and what QEMU hashes of a --kernel",
  )
  .addOption(
    new Option("--vmm <NAME>", "with --sev-snp: the VMM, since each starts processors in another state")
      .choices(vmms)
      .default("qemu"),
  )
  .option("--cpu <MODEL>", "with --sev-snp: QEMU's model, such as EPYC-Milan", "EPYC-v4")
  .addOption(
    new Option(
      "--sev-features <HEX>",
      "with --sev-snp: SEV_FEATURES of each processor; bit 5 is DebugSwap, bit 9 secure TSC",
    )
      .argParser(parseFeatures)
      .default(1n, "1"),
  )
  .addOption(memoryOption())
  .option(
    "--qemu <PROGRAM>",
    "the host's QEMU; ACPI and SMBIOS tables are read out of it",
    "qemu-system-x86_64",
  )
  .option("--qemu-version <VERSION>", "the host's QEMU version, when that QEMU is not here; needs --acpi")
  .option(
    "--acpi <PATH>",
    "tables as the guest's fw_cfg has them: the ACPI tables blob, or a directory by_name with SMBIOS too",
  )
  .option(
    "--processor-id <HEX>",
    "ID of the guest's processor, as its `dmidecode -t 4` shows it; in a TD and under KVM it is the host's",
    parseProcessorId,
  )
  .option(
    "--log <FILE>",
    "compare with a boot's event log (TCG2 or CCEL, or evidence that carries one) and say what differs first",
  )
  .addOption(
    new Option("--indexing <KIND>", "what the log's indices are; default: as the log looks").choices([
      "pcr",
      "cc",
    ] satisfies Indexing[]),
  )
  .option("--json", "one JSON document")
  .action(async (image: string | undefined, given: Options) => {
    // On the command line memory is in MiB, in a prediction in bytes.
    const options = { ...given, memory: given.memory * 2 ** 20 };
    checkCombination(image, options);
    const print = (document: object, text: () => string) =>
      process.stdout.write(options.json === true ? jsonText(document) : text());

    if (options.sevSnp === true) {
      const prediction = await launchDigest(image, options);
      print(prediction, () => renderLaunch(prediction));
      return;
    }
    const boots = options.kernel ?? options.uki;
    if (image === undefined && boots === undefined) {
      const measured = await measureFirmware(read(options.firmware!));
      print(
        measured,
        () => `MRTD single-pass  ${measured.mrtd.singlePass}\nMRTD two-pass     ${measured.mrtd.twoPass}\n`,
      );
      return;
    }
    const { input, files } = await (image === undefined ? gatherFiles(options) : imageInputs(image, options));
    const prediction = await predict(input);
    const comparison = options.log === undefined ? undefined : await compare(options, prediction, input);
    const assumed = assumptions(input);
    print(
      {
        ...prediction,
        assumed,
        machine: { vcpus: options.vcpus, memory: options.memory },
        files,
        comparison,
      },
      () =>
        comparison === undefined
          ? renderPrediction(prediction, files, assumed)
          : renderComparison(comparison),
    );
    if (comparison?.agrees === false) process.exitCode = exitCodes.rejected;
  });

async function measureFirmware(firmware: Uint8Array) {
  const { sections, form } = parseTdxMetadata(firmware);
  const hex = async (order: "single-pass" | "two-pass") =>
    Buffer.from(await mrtd(firmware, sections, order)).toString("hex");
  return {
    sha256: createHash("sha256").update(firmware).digest("hex"),
    metadata: form,
    mrtd: { singlePass: await hex("single-pass"), twoPass: await hex("two-pass") },
  };
}

/** The log itself, or the one that a document of evidence carries. */
function bootLog(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x7b) return bytes;
  const evidence = readEvidence(bytes);
  if (isQuote(evidence) && evidence.bootLog?.format === "tcg2") return evidence.bootLog.bytes;
  throw new UsageError("this evidence carries no boot log as firmware writes it", "give the log with --log");
}

async function compare(options: Options, prediction: Prediction, input: PredictInput): Promise<Comparison> {
  const log = parseEventLog(bootLog(read(options.log!)));
  const usual = prediction.platform === "tdx" ? "cc" : "pcr";
  return explainLog(prediction, measuredEvents(log, options.indexing ?? guessIndexing(log) ?? usual), input);
}
