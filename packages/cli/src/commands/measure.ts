/** `caisson measure IMAGE`, `caisson measure --firmware FILE`: what the registers must hold, before anything boots. */
import { createHash } from "node:crypto";
import {
  type Comparison,
  eventTypeName,
  explain,
  guessIndexing,
  type Indexing,
  measuredEvents,
  mrtd,
  type Platform,
  type PredictInput,
  type Prediction,
  parseEventLog,
  parseTdxMetadata,
  predict,
} from "@caisson/measure";
import { Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "../failure.ts";
import { type Files, gather, type Machine, read } from "../prediction.ts";

interface Options extends Machine {
  firmware?: string;
  log?: string;
  indexing?: Indexing;
  json?: boolean;
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError("expected a whole number above 0");
  return Number(text);
}

/** "2G", "2048M" or bytes. */
function parseSize(text: string): number {
  const match = /^([1-9]\d{0,15})([KMGT]?)(?:iB|B)?$/i.exec(text);
  if (match === null) throw new InvalidArgumentError("expected a size such as 2048M or 4G");
  const bytes = Number(match[1]) * 1024 ** " KMGT".indexOf((match[2] || " ").toUpperCase());
  if (!Number.isSafeInteger(bytes) || bytes % 2 ** 20 !== 0) {
    throw new InvalidArgumentError("expected a whole number of MiB");
  }
  return bytes;
}

/** "F8 06 08 00 FF FB 8B 1F", with or without spaces. */
function parseProcessorId(text: string): Uint8Array {
  const digits = text.replaceAll(" ", "");
  if (!/^[0-9a-fA-F]{16}$/.test(digits)) throw new InvalidArgumentError("expected 8 bytes in hexadecimal");
  return new Uint8Array(Buffer.from(digits, "hex"));
}

function parsePlatform(text: string): Platform {
  if (text !== "tdx" && text !== "emulated") throw new InvalidArgumentError("expected tdx or emulated");
  return text;
}

function parseIndexing(text: string): Indexing {
  if (text !== "pcr" && text !== "cc") throw new InvalidArgumentError("expected pcr or cc");
  return text;
}

export const command = new Command("caisson measure")
  .description(
    "Predicts what the registers of an image must hold, from its files alone; or compares a boot's log with that (exit code 10: it differs).",
  )
  .argument("[image]", "an image directory, as `caisson build` makes it")
  .option("--firmware <FILE>", "MRTD of a TDX firmware alone")
  .option("--platform <NAME>", "tdx or emulated; default: what the image's flavour boots on", parsePlatform)
  .option("--vcpus <N>", "virtual CPUs", parseCount, 2)
  .addOption(
    new Option("--memory <SIZE>", "RAM, such as 2048M or 4G").argParser(parseSize).default(2 * 2 ** 30, "2G"),
  )
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
  .option("--log <FILE>", "compare with a boot's event log (TCG2 or CCEL) and say what differs first")
  .option(
    "--indexing <KIND>",
    "what the log's indices are: pcr or cc; default: as the log looks",
    parseIndexing,
  )
  .option("--json", "one JSON document")
  .action(async (image: string | undefined, options: Options) => {
    if ((image === undefined) === (options.firmware === undefined)) {
      throw new UsageError("one of IMAGE and --firmware is needed", "caisson measure --help");
    }
    const print = (document: object, text: () => string) =>
      process.stdout.write(options.json === true ? `${JSON.stringify(document, null, 2)}\n` : text());

    if (options.firmware !== undefined) {
      const measured = await measureFirmware(read(options.firmware));
      print(
        measured,
        () => `MRTD single-pass  ${measured.mrtd.singlePass}\nMRTD two-pass     ${measured.mrtd.twoPass}\n`,
      );
      return;
    }
    const { input, files } = await gather(image!, options);
    const prediction = await predict(input);
    const comparison = options.log === undefined ? undefined : await compare(options, prediction, input);
    print(
      { ...prediction, machine: { vcpus: options.vcpus, memory: options.memory }, files, comparison },
      () => (comparison === undefined ? renderPrediction(prediction, files) : renderComparison(comparison)),
    );
    if (comparison?.agrees === false) process.exitCode = 10;
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

async function compare(options: Options, prediction: Prediction, input: PredictInput): Promise<Comparison> {
  const log = parseEventLog(read(options.log!));
  return explain(prediction, measuredEvents(log, options.indexing ?? guessIndexing(log)), input);
}

function renderPrediction(
  { platform, profile, mrtd: td, registers, events }: Prediction,
  files: Files,
): string {
  const lines = [`platform   ${platform}`, `profile    ${profile.firmware}, QEMU ${profile.qemu}`];
  lines.push(
    `           ${profile.evidence === undefined ? "UNVERIFIED: no real log stands behind this layout" : `confirmed by: ${profile.evidence}`}`,
  );
  for (const [source, file] of Object.entries(files)) lines.push(`${source.padEnd(14)} ${file}`);
  if (td !== undefined)
    lines.push("", `mrtd   single-pass  ${td.singlePass}`, `       two-pass     ${td.twoPass}`);
  for (const [name, { value, open }] of Object.entries(registers)) {
    lines.push("", `${name}  ${value ?? `not determined: ${open.join(", ")}`}`);
    for (const event of events.filter(({ register }) => register === name)) {
      const digest = event.digest === undefined ? "-".repeat(16) : event.digest.slice(0, 16);
      const source = event.digest === undefined ? `not verified: ${event.reason}` : event.source;
      lines.push(`  ${digest}  ${event.what.padEnd(42)} ${source}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function renderComparison({ agrees, first, notVerified }: Comparison): string {
  const lines = [agrees ? "the log agrees with the prediction" : "the log differs from the prediction"];
  if (first !== undefined) {
    const { register, position, expected, found, cause } = first;
    lines.push(`  where     ${register}, event ${position + 1}`);
    lines.push(`  expected  ${expected?.digest ?? "any digest"}  ${expected?.what ?? "no further event"}`);
    lines.push(
      `  found     ${found === undefined ? "nothing" : `${found.digest}  ${eventTypeName(found.type)}`}`,
    );
    lines.push(`  cause     ${cause}`);
  }
  for (const { register, what, digest } of notVerified) {
    lines.push(`  not verified: ${register} ${what} ${digest.slice(0, 16)}… is the log's own word`);
  }
  return `${lines.join("\n")}\n`;
}
