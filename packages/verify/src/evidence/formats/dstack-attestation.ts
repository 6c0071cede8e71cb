// SPDX-License-Identifier: Apache-2.0
/**
 * dstack's versioned attestation: SCALE-encoded (Substrate's codec: little-endian integers, lists and texts behind a compact
 * length), in hexadecimal inside JSON. Read here: version 0 of a TDX guest (its quote and its event log) and of a SEV-SNP guest
 * (its report). What follows them (report data, configuration) says nothing that the quote does not, and is not read.
 */
import { toHex } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import { object } from "@caisson/vocabulary/schema";
import { REPORT_SIZE } from "../../amd/report.ts";
import { VerifyError } from "../../errors.ts";
import type { AnyEvidence } from "../evidence.ts";
import { dstackEvidence } from "./dstack.ts";
import { hexBytes, readPart } from "./fields.ts";

const schema = object({ attestation: hexBytes(limits.document / 2) }, "loose");
const MAX_EVENTS = 4096;

/** dstack's number for SEV-SNP. */
const SNP = 3;

function snpReport(report: Uint8Array): Uint8Array {
  if (report.length === REPORT_SIZE) return report;
  throw new VerifyError(
    "evidence/malformed",
    "this dstack attestation holds a SEV-SNP report of another size",
    {
      actual: `${report.length} bytes`,
    },
  );
}

/** Takes SCALE values off the front of bytes. Every length is checked against what is left. */
class Scale {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  take(size: number): Uint8Array {
    if (size > this.#bytes.length - this.#at) {
      throw new VerifyError("evidence/malformed", "this dstack attestation ends inside a field", {
        where: `byte ${this.#at}`,
      });
    }
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }
  /** Little-endian. */
  number(size: 1 | 2 | 4): number {
    return this.take(size).reduceRight((value, byte) => value * 256 + byte, 0);
  }
  /** A length: one, two or four bytes, whose two lowest bits say which. */
  compact(): number {
    const first = this.number(1);
    const mode = first & 3;
    if (mode === 0) return first >> 2;
    if (mode === 1) return (first >> 2) + 64 * this.number(1);
    if (mode === 2) return (first >> 2) + 64 * (this.number(1) + 256 * this.number(2));
    throw new VerifyError("evidence/malformed", "this dstack attestation has a length that nothing can have");
  }
  bytes(): Uint8Array {
    return this.take(this.compact());
  }
}

/** Reads a parsed document. Throws VerifyError "evidence/malformed", "evidence/unsupported" for other versions or TEEs. */
export function readDstackAttestation(document: unknown): AnyEvidence {
  const { attestation } = readPart(schema, document, "dstack attestation");
  const scale = new Scale(attestation);
  const [version, tee] = [scale.number(1), scale.number(1)];
  if (version === 0 && tee === SNP) return { platform: "snp", report: snpReport(scale.bytes()) };
  if (version !== 0 || tee !== 0) {
    throw new VerifyError(
      "evidence/unsupported",
      "a dstack attestation of another version, or of another kind of guest",
      {
        expected: "version 0, TDX or SEV-SNP",
        actual: `version ${version}, kind ${tee}`,
      },
    );
  }
  const quote = scale.bytes();
  const count = scale.compact();
  if (count > MAX_EVENTS) {
    throw new VerifyError("evidence/malformed", `this dstack attestation has ${count} events`);
  }
  const rows = Array.from({ length: count }, () => ({
    imr: scale.number(4),
    event_type: scale.number(4),
    digest: toHex(scale.bytes()),
    event: new TextDecoder().decode(scale.bytes()),
    event_payload: toHex(scale.bytes()),
  }));
  return dstackEvidence(quote, JSON.stringify(rows), undefined);
}
