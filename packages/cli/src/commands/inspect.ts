// SPDX-License-Identifier: Apache-2.0
/** `caisson inspect FILE`: what a firmware image consists of, what an event log says and proves, what evidence says. */
import {
  eventTypeName,
  type MeasuredEvent,
  MeasureError,
  measuredEvents,
  type PayloadBinding,
  parseEventLog,
  parseTdxMetadata,
  parseVariable,
  payloadBinding,
  replay,
  type TdxMetadata,
} from "@caisson/measure";
import { parseDstackLog } from "@caisson/measure/dstack-log";
import {
  type FirmwareVolume,
  firmwareIdentity,
  firmwareTraits,
  firmwareVolumes,
  ovmfVolumes,
} from "@caisson/measure/firmware-volume";
import { guessIndexing, replayPcrs } from "@caisson/measure/tpm-log";
import { readVariableStore } from "@caisson/measure/variables";
import { type AnyEvidence, isQuote, VerifyError } from "@caisson/verify";
import { type Description, describeEvidence } from "@caisson/verify/describe";
import { isEvidence, readEvidence } from "@caisson/verify/every-form";
import { toHex } from "@caisson/vocabulary/bytes";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { readInput } from "../input-file.ts";
import { explaining, refuseNotEvidence } from "../judgement-files.ts";
import { jsonText } from "../views/answer.ts";
import { printable } from "../views/printable.ts";
import { renderDescription } from "../views/report-view.ts";

export const command = new Command("caisson inspect")
  .description("Shows what a firmware image, an event log or evidence consists of; it judges nothing.")
  .argument(
    "<file>",
    "a firmware image, a TCG2 or CCEL event log, dstack's JSON log, or evidence in any form that `verify` reads; - is stdin",
  )
  .option("--json", "one JSON document")
  .action(async (file: string, options: { json?: boolean }) => {
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(readInput(file));
    } catch (error) {
      throw new UsageError(
        `${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`,
        "check the path",
      );
    }
    const print = <T extends object>(document: T, text: (document: T) => string) =>
      process.stdout.write(options.json === true ? jsonText(document) : text(document));
    const evidence = isBinaryLog(bytes) || isJsonLog(bytes) ? undefined : asEvidence(bytes);
    if (evidence !== undefined) print(await explaining(() => inspectEvidence(evidence)), renderEvidence);
    else if (isBinaryLog(bytes)) print(await inspectBinaryLog(bytes), renderLog);
    else if (isJsonLog(bytes)) print(await inspectJsonLog(bytes), renderLog);
    else print(inspectFirmware(bytes), renderFirmware);
  });

const isBinaryLog = (bytes: Uint8Array) =>
  Buffer.from(bytes.subarray(32, 48)).toString("latin1").startsWith("Spec ID Event");
/** dstack's log by itself, or in an answer without a quote. */
function isJsonLog(bytes: Uint8Array): boolean {
  if (bytes[0] === 0x5b) return true;
  if (bytes[0] !== 0x7b) return false;
  const text = Buffer.from(bytes).toString("utf8");
  return /"event_log"\s*:/.test(text) && !/"quote"\s*:/.test(text);
}

/** A firmware image is larger than any evidence but a document, which is text. */
const LARGEST_BINARY = 256 << 10;

/** Evidence in a form that `verify` reads; undefined for what is not one. Throws VerifyError for a form that is broken. */
function asEvidence(bytes: Uint8Array): AnyEvidence | undefined {
  if (bytes.length > LARGEST_BINARY && bytes[0] !== 0x7b) return undefined;
  return isEvidence(bytes) ? readEvidence(bytes) : undefined;
}

interface EvidenceReport extends Description {
  log?: LogReport;
  runtimeEvents?: { name: string; payload: string }[];
}

async function inspectEvidence(evidence: AnyEvidence): Promise<EvidenceReport> {
  if (!isQuote(evidence)) return describeEvidence(evidence);
  const { bootLog, runtimeEvents } = evidence;
  return {
    ...describeEvidence(evidence),
    ...(bootLog?.format === "tcg2" && { log: await inspectBinaryLog(bootLog.bytes) }),
    ...(runtimeEvents !== undefined && {
      runtimeEvents: runtimeEvents.map(({ name, payload }) => ({ name, payload: toHex(payload) })),
    }),
  };
}

function renderEvidence({ log, runtimeEvents, ...description }: EvidenceReport): string {
  const events = (runtimeEvents ?? []).map(({ name, payload }) =>
    `  ${name.padEnd(20)} ${payload}`.trimEnd(),
  );
  return [
    renderDescription(description),
    ...(events.length === 0
      ? []
      : [`\nruntime events (RTMR3), as the log has them\n${events.map(printable).join("\n")}\n`]),
    ...(log === undefined ? [] : [`\n${renderLog(log)}`]),
  ].join("");
}

interface LogRow {
  register: string;
  type: string;
  digest: string;
  payload: string;
  binding: PayloadBinding | "recomputed";
}
interface LogReport {
  kind: string;
  events: LogRow[];
  registers: Record<string, string>;
}

const logKinds = {
  pcr: "TCG2 log (PCRs)",
  cc: "CCEL (measurement registers)",
  unknown: "event log that extends nothing: a TPM's or a TD's",
} as const;

async function inspectBinaryLog(bytes: Uint8Array): Promise<LogReport> {
  const log = parseEventLog(bytes);
  const guessed = guessIndexing(log);
  // Where nothing tells, nothing is extended either.
  const indexing = guessed ?? "pcr";
  const events = measuredEvents(log, indexing);
  const rows = events.map(async (event) => row(event, await payloadBinding(event)));
  const pcrs = indexing === "pcr" ? [...(await replayPcrs(log))].sort((a, b) => a[0] - b[0]) : [];
  const registers = Object.entries(await replay(events)).filter(([, value]) =>
    value.some((byte) => byte !== 0),
  );
  return {
    kind: logKinds[guessed ?? "unknown"],
    events: await Promise.all(rows),
    registers: Object.fromEntries([
      ...pcrs.map(([pcr, value]) => [`pcr${pcr}`, toHex(value)]),
      ...registers.map(([name, value]) => [name, toHex(value)]),
    ]),
  };
}

/** The log itself, or an answer that carries it as `event_log` (an array, or its text). */
async function inspectJsonLog(bytes: Uint8Array): Promise<LogReport> {
  let text = Buffer.from(bytes).toString("utf8");
  try {
    const document = JSON.parse(text) as { event_log?: unknown };
    if (document.event_log !== undefined) {
      text = typeof document.event_log === "string" ? document.event_log : JSON.stringify(document.event_log);
    }
  } catch {
    // parseDstackLog says what is wrong with it
  }
  const events = await parseDstackLog(text);
  const rows = events.map(async (event) => {
    const binding = event.register === "rtmr3" ? "recomputed" : await payloadBinding(event);
    return { ...row(event, binding), payload: `${event.name} ${row(event, binding).payload}`.trim() };
  });
  const registers = Object.entries(await replay(events)).map(([name, value]) => [name, toHex(value)]);
  return { kind: "dstack log", events: await Promise.all(rows), registers: Object.fromEntries(registers) };
}

function row(event: MeasuredEvent, binding: LogRow["binding"]): LogRow {
  return {
    register: event.pcr === undefined ? event.register : `${event.register} (PCR ${event.pcr})`,
    type: eventTypeName(event.type),
    digest: toHex(event.digest),
    payload: describe(event.data),
    binding,
  };
}

/** Text in a payload, or its first bytes. A payload is whatever the log's holder wrote: only printable ASCII is shown. */
function describe(data: Uint8Array): string {
  const variable = parseVariable(data);
  const bytes = Buffer.from(data);
  // An EV_EVENT_TAG's text follows 8 bytes of tag and size.
  const candidates = [bytes.toString("latin1"), bytes.toString("utf16le"), bytes.toString("latin1", 8)];
  const text =
    variable?.name ?? candidates.find((candidate) => /^[ -~]{3,}\0*$/.test(candidate))?.replace(/\0+$/, "");
  if (text !== undefined && /^[ -~]+$/.test(text)) return text.slice(0, 80);
  return data.length === 0
    ? ""
    : `${toHex(data.subarray(0, 16))}${data.length > 16 ? "…" : ""} (${data.length} bytes)`;
}

const bindingText: Record<LogRow["binding"], string> = {
  whole: "bound",
  "variable-data": "data bound",
  description: "not bound",
  absent: "no payload",
  mismatch: "ALTERED",
  recomputed: "bound",
};

function renderLog({ kind, events, registers }: LogReport): string {
  const lines = [
    `${kind}, ${events.length} events; "not bound": the digest measures something else than this text`,
    "",
  ];
  for (const { register, type, digest, payload, binding } of events) {
    lines.push(
      `${register.padEnd(15)} ${type.padEnd(34)} ${digest.slice(0, 16)}  ${bindingText[binding].padEnd(10)} ${payload}`.trimEnd(),
    );
  }
  lines.push("");
  for (const [name, value] of Object.entries(registers)) lines.push(`${name.padEnd(6)} ${value}`);
  return `${lines.join("\n")}\n`;
}

function inspectFirmware(bytes: Uint8Array) {
  let metadata: TdxMetadata | undefined;
  let withoutTdx: string | undefined;
  try {
    metadata = parseTdxMetadata(bytes);
  } catch (error) {
    if (!(error instanceof MeasureError)) throw error;
    withoutTdx = error.message;
  }
  const volumes = firmwareVolumes(bytes);
  if (metadata === undefined && volumes.length === 0) {
    refuseNotEvidence(bytes);
    throw new VerifyError(
      "evidence/unsupported",
      "this is neither a firmware image, nor an event log, nor evidence in a form that is known here",
      { fix: "caisson inspect --help" },
    );
  }
  const cfv = metadata?.sections.find(({ type }) => type === "CFV");
  const store = readVariableStore(cfv ? bytes.subarray(cfv.dataOffset, cfv.dataOffset + cfv.rawSize) : bytes);
  const keys = [...store.keys()]
    .map((key) => key.slice(0, -37))
    .filter((name) => ["PK", "KEK", "db", "dbx", "dbt"].includes(name));
  const identity = firmwareIdentity(ovmfVolumes(bytes).dxe);
  const traits = { ...firmwareTraits(volumes), keys };
  return { size: bytes.length, identity, metadata, withoutTdx, traits, volumes };
}

function renderFirmware(report: ReturnType<typeof inspectFirmware>): string {
  const { size, identity, metadata, withoutTdx, traits, volumes } = report;
  const number = (value: number) => `0x${value.toString(16)}`;
  const yes = (value: boolean) => (value ? "yes" : "no");
  const lines = [
    `firmware      ${size} bytes`,
    `built as      ${identity ? `${identity.version} of ${identity.releaseDate}, ${identity.vendor}` : "not found"}`,
    `shell         ${yes(traits.shell)}`,
    `network       ${traits.network.length === 0 ? "no" : traits.network.join(", ")}`,
    `Secure Boot   ${yes(traits.secureBoot)}; enrolled keys: ${traits.keys.join(", ") || "none"}`,
    `TPM or CC     ${yes(traits.tpm)}`,
    "",
    metadata === undefined ? `no TDX metadata: ${withoutTdx}` : `TDX metadata (${metadata.form})`,
  ];
  for (const { type, address, memorySize, dataOffset, rawSize, extend, augment } of metadata?.sections ??
    []) {
    const flags = [extend ? "measured" : "", augment ? "augmented" : ""].join(" ").trim();
    lines.push(
      `  ${type.padEnd(12)} memory ${number(address)}+${number(memorySize)}  file ${number(dataOffset)}+${number(rawSize)}  ${flags}`.trimEnd(),
    );
  }
  for (const volume of volumes) lines.push("", ...renderVolume(volume));
  return `${lines.join("\n")}\n`;
}

function renderVolume({ depth, offset, size, guid, compressed, files }: FirmwareVolume): string[] {
  const indent = "  ".repeat(depth);
  const where = offset === undefined ? (compressed ? "compressed" : "nested") : `at 0x${offset.toString(16)}`;
  return [
    `${indent}volume ${guid}, ${size} bytes, ${where}`,
    ...files.map(
      (file) => `${indent}  ${file.type.padEnd(13)} ${(file.name ?? file.guid).padEnd(36)} ${file.size}`,
    ),
  ];
}
