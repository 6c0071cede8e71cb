/** `caisson measure IMAGE`, `caisson measure --firmware FILE`: what the registers must hold, before anything boots. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { imageAcpiFiles, qemuVersion, tcgCpu } from "@caisson/host/acpi";
import { cacheDirectory, type Manifest } from "@caisson/image";
import {
  ACPI_TABLES,
  type AcpiFiles,
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
import { firmwareTraits, firmwareVolumes, ovmfVolumes } from "@caisson/measure/firmware-volume";
import { readVariableStore } from "@caisson/measure/variables";
import { Command, InvalidArgumentError } from "commander";
import { UsageError } from "../failure.ts";

interface Options {
  firmware?: string;
  platform?: Platform;
  vcpus: number;
  memory: number;
  qemu: string;
  qemuVersion?: string;
  acpi?: string;
  log?: string;
  indexing?: Indexing;
  json?: boolean;
}

/** An error of the command line's files, with the file's name. */
class InputError extends Error {
  readonly code = "measure/input";
  readonly kind = "input";
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
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

function parsePlatform(text: string): Platform {
  if (text !== "tdx" && text !== "emulated") throw new InvalidArgumentError("expected tdx or emulated");
  return text;
}

function parseIndexing(text: string): Indexing {
  if (text !== "pcr" && text !== "cc") throw new InvalidArgumentError("expected pcr or cc");
  return text;
}

function read(path: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    throw new InputError(
      `${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`,
      "check the path",
    );
  }
}

export const command = new Command("caisson measure")
  .argument("[image]", "an image directory, as `caisson build` makes it")
  .option("--firmware <FILE>", "MRTD of a TDX firmware alone")
  .option("--platform <NAME>", "tdx or emulated; default: what the image's flavour boots on", parsePlatform)
  .option("--vcpus <N>", "virtual CPUs", parseCount, 2)
  .option("--memory <SIZE>", "RAM, such as 2048M or 4G", parseSize, 2 * 2 ** 30)
  .option("--qemu <PROGRAM>", "the host's QEMU; ACPI tables are read out of it", "qemu-system-x86_64")
  .option("--qemu-version <VERSION>", "the host's QEMU version, when that QEMU is not here; needs --acpi")
  .option(
    "--acpi <PATH>",
    "ACPI tables as the guest's fw_cfg has them: the tables blob, or a directory by_name",
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

/** Which file each source of a prediction is. */
type Files = Record<string, string>;

/** Everything that the prediction of an image needs, from its directory and the host's QEMU. */
async function gather(image: string, options: Options): Promise<{ input: PredictInput; files: Files }> {
  const manifest = readManifest(image);
  const platform = options.platform ?? (manifest.flavour === "development" ? "emulated" : "tdx");
  const emulated = platform === "emulated";
  const firmwareArtefact = emulated ? manifest.firmware.emulated.code : manifest.firmware.tdx;
  const release = emulated ? manifest.versions.firmware.emulated : manifest.versions.firmware.tdx;
  const path = (artefact: { file: string }) => join(image, artefact.file);
  const checked = (artefact: { file: string; sha256: string }) => {
    const bytes = read(path(artefact));
    if (createHash("sha256").update(bytes).digest("hex") !== artefact.sha256) {
      throw new InputError(
        `${path(artefact)} is not the file that the manifest names`,
        "build the image again",
      );
    }
    return bytes;
  };
  const firmware = checked(firmwareArtefact);
  const variables = emulated ? checked(manifest.firmware.emulated.variables) : undefined;
  const kernel = checked(manifest.kernel);
  const qemu = { program: options.qemu };
  const shape = { vcpus: options.vcpus, memory: options.memory / 2 ** 20 };
  const version = options.qemuVersion ?? (await qemuVersion(qemu));
  let acpi: AcpiFiles | undefined;
  if (options.acpi !== undefined) acpi = readAcpi(options.acpi);
  else if (options.qemuVersion === undefined) {
    const machine = {
      platform,
      shape,
      kernel: path(manifest.kernel),
      firmware: path(firmwareArtefact),
      ...(emulated && { variables: path(manifest.firmware.emulated.variables) }),
      cpu: emulated ? tcgCpu : ({ vendor: "GenuineIntel", physicalBits: 46 } as const),
    };
    acpi = await imageAcpiFiles(qemu, machine, join(cacheDirectory(process.env), "acpi"));
  }
  const files: Files = {
    firmware: path(firmwareArtefact),
    kernel: path(manifest.kernel),
    "command line": join(image, "manifest.json"),
    acpi: options.acpi ?? (acpi === undefined ? "not given" : `${options.qemu} ${version}`),
    machine: `${options.vcpus} vCPUs, ${shape.memory} MiB`,
  };
  const fwCfg = acpi?.["bootorder"] && { BootMenu: new Uint8Array(2), ...acpi };
  return {
    files,
    input: {
      platform,
      firmware,
      firmwareRelease: release,
      ...firmwareContents(firmware, variables, release),
      boot: { method: "direct", kernel, commandLine: manifest.commandLine },
      memory: options.memory,
      qemu: version,
      ...(acpi !== undefined && { acpi }),
      ...(fwCfg !== undefined && { fwCfg }),
      ...(variables !== undefined && { variables }),
    },
  };
}

/** What only the decompressed firmware shows: volumes of PCR 0, its version string, whether it has Secure Boot. */
function firmwareContents(
  firmware: Uint8Array,
  variables: Uint8Array | undefined,
  release: string,
): Pick<PredictInput, "firmwareVersion" | "volumes" | "secureBoot"> {
  const volumes = ovmfVolumes(firmware);
  const version = Buffer.from(`${release}\0`, "utf16le");
  const named = Object.values(volumes).some(
    (volume) => volume !== undefined && Buffer.from(volume).includes(version),
  );
  const enrolled = [...readVariableStore(variables ?? firmware).keys()].some((key) => key.startsWith("PK-"));
  const off = !enrolled && firmwareTraits(firmwareVolumes(firmware)).secureBoot;
  return { volumes, ...(named && { firmwareVersion: release }), ...(off && { secureBoot: "off" }) };
}

function readManifest(image: string): Manifest {
  const path = join(image, "manifest.json");
  let manifest: Partial<Manifest>;
  try {
    manifest = JSON.parse(Buffer.from(read(path)).toString("utf8")) as Partial<Manifest>;
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${path} is no JSON`, "build the image again");
  }
  if (manifest.schema !== "caisson/manifest/v1") {
    throw new InputError(`${path} is no manifest of an image`, "build the image with `caisson build`");
  }
  return manifest as Manifest;
}

/** A tables blob, or a directory like the guest's /sys/firmware/qemu_fw_cfg/by_name (files may be NAME/raw). */
function readAcpi(path: string): AcpiFiles {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return { [ACPI_TABLES]: read(path) };
  const files: Record<string, Uint8Array> = {};
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const full = join(entry.parentPath, entry.name);
    files[
      full
        .slice(path.length)
        .replace(/^\/+/, "")
        .replace(/\/raw$/, "")
    ] = read(full);
  }
  return files;
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
