// SPDX-License-Identifier: Apache-2.0
/**
 * dstack's versioned attestation (Dstack-TEE/dstack, dstack-attest), as bytes or in hexadecimal inside JSON. Version 0
 * is SCALE (Substrate's codec: little-endian integers, lists and texts behind a compact length), version 1 MessagePack.
 * Of every kind of guest the hardware's evidence counts: a quote and its log, a report, a Nitro document. What else is
 * in it must be well-formed and says nothing: runtime events where no register holds them, the configuration, and the
 * quote of Google's TPM, which lies outside the TEE.
 */
import { fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import {
  either,
  integer,
  list,
  object,
  oneOf,
  optional,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";
import { readCertificateTable } from "../../amd/certificate-table.ts";
import { parseEndorsement } from "../../amd/certificates.ts";
import type { AmdCollateral } from "../../amd/collateral.ts";
import { REPORT_SIZE } from "../../amd/report.ts";
import { VerifyError } from "../../errors.ts";
import { pemToDer } from "../../pki/pem.ts";
import { Cursor } from "../cursor.ts";
import type { AnyEvidence, NitroEvidence, ReportDataClaim, SnpEvidence } from "../evidence.ts";
import { decodeMessagePack, isMessagePackMap } from "../message-pack.ts";
import { dstackEvidence } from "./dstack.ts";
import { hexBytes, readPart } from "./fields.ts";

const schema = object({ attestation: hexBytes(limits.document / 2) }, "loose");
const MAX_EVENTS = 4096;
const what = "this dstack attestation";

/** Kinds of guests, by dstack's numbers of version 0 and its names of version 1. */
const kinds = ["tdx", "gcp-tdx", "nitro-enclave", "sev-snp", "aws-nitro-tpm"] as const;

/**
 * Whether bytes begin as an attestation does: version 0, a kind, and a quote, report or document in full; or version
 * 1's map.
 */
export function isDstackAttestation(bytes: Uint8Array): boolean {
  if (isMessagePackMap(bytes, "version")) return true;
  if (bytes[0] !== 0 || bytes[1]! >= kinds.length || bytes.length < LEAST) return false;
  const size = (bytes[2]! | (bytes[3]! << 8)) >> 2;
  return (bytes[2]! & 3) === 1 && size >= LEAST && size < bytes.length;
}
/** Of bytes that are any hardware's evidence; such of 16 kB or more are in no attestation of version 0. */
const LEAST = 1000;

/** Reads a parsed document. Throws VerifyError "evidence/malformed", "evidence/unsupported" for other versions or TEEs. */
export const readDstackDocument = (document: unknown): AnyEvidence =>
  readDstackAttestation(readPart(schema, document, "dstack attestation").attestation);

/** Reads an attestation's own bytes. Throws as `readDstackDocument` does. */
export function readDstackAttestation(bytes: Uint8Array): AnyEvidence {
  if (bytes[0] === 0) return readVersion0(new Scale(bytes, what));
  if (isMessagePackMap(bytes, "version")) return readVersion1(decodeMessagePack(bytes, what));
  return unsupported(`one that begins with ${toHex(bytes.subarray(0, 1)) || "nothing"}`);
}

function unsupported(actual: string): never {
  throw new VerifyError(
    "evidence/unsupported",
    "a dstack attestation of another version, or of another kind of guest",
    { expected: `version 0 or 1, ${kinds.join(", ")}`, actual },
  );
}

const malformed = (reason: string): never => {
  throw new VerifyError("evidence/malformed", `${what} ${reason}`);
};

const claimOf = (data: Uint8Array): { reportData: ReportDataClaim } => ({
  reportData: { scheme: "raw", fields: { data } },
});

function ofReport(report: Uint8Array, chain: readonly Uint8Array[], reportData: Uint8Array): SnpEvidence {
  if (report.length !== REPORT_SIZE) malformed(`holds a SEV-SNP report of ${report.length} bytes`);
  return {
    platform: "snp",
    report,
    ...(chain.length > 0 && { collateral: certificatesOf(chain) }),
    ...claimOf(reportData),
  };
}

/** The host's table of certificates as one part, or each certificate as a part of its own, DER or PEM; ASK before ARK. */
function certificatesOf(parts: readonly Uint8Array[]): AmdCollateral {
  const [first] = parts;
  if (parts.length === 1 && first![0] !== SEQUENCE && !isPem(first!)) return readCertificateTable(first!);
  const all = parts.flatMap((part) => (isPem(part) ? pemToDer(fromUtf8(part)) : [part]));
  const keys = all.filter(isEndorsement);
  if (keys.length > 1) malformed("holds certificates of more than one signing key");
  const authorities = all.filter((der) => !keys.includes(der));
  return {
    ...(keys[0] && { endorsement: keys[0] }),
    ...(authorities.length === 2 && { chain: authorities }),
  };
}

const SEQUENCE = 0x30;
const isPem = (bytes: Uint8Array): boolean => fromUtf8(bytes.subarray(0, 11)) === "-----BEGIN ";
function isEndorsement(der: Uint8Array): boolean {
  try {
    return parseEndorsement(der) !== undefined;
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return false;
  }
}

const ofNitro = (document: Uint8Array): NitroEvidence => ({ platform: "nitro", document });

/** SCALE's own values. */
class Scale extends Cursor {
  /** One, two or four bytes, whose two lowest bits say which; in the shortest form. */
  compact(): number {
    const first = this.littleEndian(1);
    const mode = first & 3;
    if (mode === 3) this.wrong("has a length that nothing can have");
    const value = (first >> 2) + 64 * this.littleEndian([0, 1, 3][mode]!);
    if (value < [0, 64, 1 << 14][mode]!) this.wrong("has a length that is not in its shortest form");
    return value;
  }
  bytes(): Uint8Array {
    return this.take(this.compact());
  }
  string(): string {
    return this.text(this.compact());
  }
  list<T>(item: () => T): T[] {
    const length = this.compact();
    if (length > MAX_EVENTS) this.wrong(`has a list of ${length}, which is more than ${MAX_EVENTS}`);
    return Array.from({ length }, item);
  }
}

function readVersion0(scale: Scale): AnyEvidence {
  scale.littleEndian(1);
  const number = scale.littleEndian(1);
  const kind = kinds[number];
  if (kind === undefined) return unsupported(`version 0, kind ${number}`);
  const read = hardware0[kind](scale);
  scale.list(() => [scale.string(), scale.bytes()]);
  const reportData = scale.take(64);
  scale.string();
  scale.end();
  return read(reportData);
}

/** Of each kind what comes before that which all have; what is read waits for the report data. */
const hardware0: Record<(typeof kinds)[number], (scale: Scale) => (reportData: Uint8Array) => AnyEvidence> = {
  tdx: (scale) => {
    const quote = scale.bytes();
    const rows = scale.list(() => ({
      imr: scale.littleEndian(4),
      event_type: scale.littleEndian(4),
      digest: toHex(scale.bytes()),
      event: scale.string(),
      event_payload: toHex(scale.bytes()),
    }));
    return (reportData) => dstackEvidence(quote, JSON.stringify(rows), reportData);
  },
  "gcp-tdx": (scale) => {
    const read = hardware0.tdx(scale);
    skipTpmQuote(scale);
    return read;
  },
  "nitro-enclave": (scale) => {
    const document = scale.bytes();
    return () => ofNitro(document);
  },
  "sev-snp": (scale) => {
    const report = scale.bytes();
    const chain = scale.list(() => scale.bytes());
    scale.string();
    return (reportData) => ofReport(report, chain, reportData);
  },
  "aws-nitro-tpm": (scale) => hardware0["nitro-enclave"](scale),
};

/** Message, signature, PCRs (number, bank, value), the key's certificate, the platform, events (PCR, digest). */
function skipTpmQuote(scale: Scale): void {
  scale.bytes();
  scale.bytes();
  scale.list(() => [scale.littleEndian(4), scale.string(), scale.bytes()]);
  scale.bytes();
  scale.littleEndian(1);
  scale.list(() => [scale.littleEndian(4), scale.bytes()]);
}

/** A byte string, or a list of the bytes' numbers, as serde writes one. */
function packedBytes(most: number): Schema<Uint8Array> {
  const numbers = list(integer(0, 255), 0, most);
  return either(
    `bytes, at most ${most}`,
    (value) => {
      if (value instanceof Uint8Array && value.length <= most) return value;
      throw new SchemaError("", `expected at most ${most} bytes`);
    },
    (value) => Uint8Array.from(numbers(value)),
  );
}
const anyText = text("a text", /^/, limits.document);
const quoteBytes = packedBytes(limits.quote);
const events = list(
  object(
    {
      imr: integer(0, 3),
      event_type: integer(0, 0xffffffff),
      digest: optional(packedBytes(64)),
      event: anyText,
      event_payload: packedBytes(limits.bootLog),
      version: optional(oneOf(1, 2)),
    },
    "loose",
  ),
  0,
  MAX_EVENTS,
);
const runtimeEvents = list(
  object({ event: anyText, payload: packedBytes(limits.bootLog) }, "loose"),
  0,
  MAX_EVENTS,
);

const version1 = object({
  version: integer(0, 0xffffffff),
  platform: object({ kind: anyText, data: (value) => value }),
  stack: object({
    kind: oneOf("dstack", "dstack-pod"),
    data: object(
      {
        report_data: packedBytes(64),
        runtime_events: runtimeEvents,
        config: anyText,
        report_data_payload: optional(anyText),
      },
      "loose",
    ),
  }),
});
const tdx = object({ quote: quoteBytes, event_log: events }, "loose");
const snp = object(
  { report: packedBytes(REPORT_SIZE), cert_chain: list(packedBytes(limits.quote), 0, 8), mr_config: anyText },
  "loose",
);
const nitroEnclave = object({ nsm_quote: quoteBytes }, "loose");
const nitroTpm = object({ attestation_doc: quoteBytes }, "loose");

function readVersion1(value: unknown): AnyEvidence {
  const { version, platform, stack } = readPart(version1, value, "dstack attestation");
  const { kind, data } = platform;
  const { report_data: reportData } = stack.data;
  if (version !== 1) return unsupported(`version ${version}`);
  if (reportData.length !== 64) malformed("has report data that is not 64 bytes");
  const part = <T>(schema: Schema<T>) => readPart(schema, data, "dstack attestation");
  switch (kind) {
    case "tdx":
    case "gcp-tdx": {
      const { quote, event_log } = part(tdx);
      const rows = event_log.map(({ digest = new Uint8Array(), event_payload, ...row }) => ({
        ...row,
        digest: toHex(digest),
        event_payload: toHex(event_payload),
      }));
      return dstackEvidence(quote, JSON.stringify(rows), reportData);
    }
    case "sev-snp": {
      const { report, cert_chain } = part(snp);
      return ofReport(report, cert_chain, reportData);
    }
    case "nitro-enclave":
      return ofNitro(part(nitroEnclave).nsm_quote);
    case "aws-nitro-tpm":
      return ofNitro(part(nitroTpm).attestation_doc);
    default:
      return unsupported(`version 1, kind ${JSON.stringify(kind.slice(0, 32))}`);
  }
}
