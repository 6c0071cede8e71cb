// SPDX-License-Identifier: Apache-2.0
/**
 * Protocol Buffers' text format (protobuf.dev, text format language), as Go's prototext writes it: what `attest
 * -outform textproto` of go-tdx-guest and go-sev-guest and `gotpm attest --format textproto` of go-tpm-tools print. A
 * text is translated into the wire format by the names of its fields, and read as that: one reader decides what a
 * message may hold.
 *
 * Narrower than the language: no comments, lists in brackets, extensions, single quotes or numbers in other spellings,
 * of which none of them writes any.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../../errors.ts";
import type { AnyEvidence } from "../evidence.ts";
import { isProtobuf, readProtobuf } from "./protobuf.ts";

/** A message's fields by name; of those that are "left out" the text is read and what it says is not. */
type Shape = ReadonlyMap<string, readonly [field: number, kind: "number" | "bytes" | "left out" | Shape]>;

/** `names`: in the order of their numbers, from 1; with * bytes, - is none, others are numbers or in `inner`. */
const shape = (names: string, inner: Readonly<Record<string, Shape | "left out">> = {}): Shape =>
  new Map(
    names.split(" ").flatMap((name, i) => {
      if (name === "-") return [];
      const plain = name.replace("*", "");
      return [[plain, [i + 1, inner[plain] ?? (plain === name ? "number" : "bytes")] as const] as const];
    }),
  );

const header = shape("version attestation_key_type tee_type qe_svn* pce_svn* qe_vendor_id* user_data*");
const bodyNames =
  "tee_tcb_svn* mr_seam* mr_signer_seam* seam_attributes* td_attributes* xfam* mr_td* mr_config_id* mr_owner* mr_owner_config* rtmrs* report_data*";
const qeReport = shape(
  "cpu_svn* misc_select reserved1* attributes* mr_enclave* reserved2* mr_signer* reserved3* isv_prod_id isv_svn reserved4* report_data*",
);
const certification = shape("qe_report qe_report_signature* qe_auth_data pck_certificate_chain_data", {
  qe_report: qeReport,
  qe_auth_data: shape("parsed_data_size data*"),
  pck_certificate_chain_data: shape("certificate_data_type size pck_cert_chain*"),
});
const signedData = shape("signature* ecdsa_attestation_key* certification_data", {
  certification_data: shape("certificate_data_type size qe_report_certification_data", {
    qe_report_certification_data: certification,
  }),
});
/** Of either version: which second field belongs to it, the reader of the wire format says. */
const quote: Shape = new Map([
  ...shape("header td_quote_body signed_data_size signed_data extra_bytes*", {
    header,
    td_quote_body: shape(bodyNames),
    signed_data: signedData,
  }),
  ...shape("- td_quote_body_descriptor", {
    td_quote_body_descriptor: shape("td_quote_body_type td_quote_body_size td_quote_body_v5", {
      td_quote_body_v5: shape(`${bodyNames} tee_tcb_svn2* mr_service_td*`),
    }),
  }),
]);
const report = shape(
  "version guest_svn policy family_id* image_id* vmpl signature_algo current_tcb platform_info signer_info report_data* measurement* host_data* id_key_digest* author_key_digest* report_id* report_id_ma* reported_tcb chip_id* committed_tcb current_build current_minor current_major committed_build committed_minor committed_major launch_tcb signature* cpuid1eax_fms launch_mit_vector current_mit_vector",
);
const snpAttestation = shape("report certificate_chain product", {
  report,
  certificate_chain: shape("vcek_cert* ask_cert* ark_cert* firmware_cert* - vlek_cert* extras", {
    extras: "left out",
  }),
  product: "left out",
});
const tpmAttestation = shape(
  "ak_pub* quotes event_log* instance_info canonical_event_log* ak_cert* intermediate_certs* sev_snp_attestation tdx_attestation",
  {
    quotes: "left out",
    instance_info: "left out",
    sev_snp_attestation: snpAttestation,
    tdx_attestation: quote,
  },
);

/** By the first field, and for a report, which begins with a number as many a text does, by the second. */
const beginnings: readonly (readonly [begins: RegExp, shape: Shape])[] = [
  [/^\s*header:?\s*\{\s*version:/, quote],
  [/^\s*report:?\s*\{\s*version:/, snpAttestation],
  [/^\s*version:\s*\d+\s+(?:guest_svn|policy):/, report],
  [/^\s*ak_pub:\s*"/, tpmAttestation],
];
const shapeOf = (bytes: Uint8Array): Shape | undefined => {
  const start = new TextDecoder().decode(bytes.subarray(0, 256));
  return beginnings.find(([begins]) => begins.test(start))?.[1];
};

/** Messages in messages: more than any of these has, and few enough for the stack. */
const DEEPEST = 12;
const MOST = (1n << 64n) - 1n;
const escapes: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, '"': 34, "'": 39, "\\": 92 };
const encoder = new TextEncoder();

class Text {
  readonly #text: string;
  #at = 0;

  constructor(bytes: Uint8Array) {
    try {
      this.#text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new VerifyError("evidence/malformed", "this text of a protobuf is not UTF-8");
    }
  }

  /** The fields of a message in the wire format, up to its closing brace; of the outermost one up to the end. */
  message(shape: Shape | "left out", depth = 0): Uint8Array {
    if (depth > DEEPEST) this.#wrong("has messages in messages, too many");
    const parts: Uint8Array[] = [];
    const end = depth === 0 ? "" : "}";
    while (this.#peek() !== end) {
      const name = this.#match(/[a-z]\w*/y, "the name of a field");
      const known = shape === "left out" ? ([0, "left out"] as const) : shape.get(name);
      if (known === undefined)
        this.#wrong(`has a field ${name} that is not known here`, "evidence/unsupported");
      const [field, kind] = known;
      const value = this.#value(kind, depth);
      if (kind !== "left out") parts.push(encoded(field, value));
    }
    if (depth > 0) this.#at++;
    return joined(parts);
  }

  #value(kind: "number" | "bytes" | "left out" | Shape, depth: number): bigint | Uint8Array {
    const colon = this.#peek() === ":";
    if (colon) this.#at++;
    const first = this.#peek();
    if (first === "{" && (kind === "left out" || typeof kind === "object")) {
      this.#at++;
      return this.message(kind, depth + 1);
    }
    if (!colon) this.#wrong("has a field without a value");
    if (first === '"' && (kind === "bytes" || kind === "left out")) return this.#string();
    if (kind === "number") {
      const number = BigInt(this.#match(/(?:0|[1-9]\d{0,19})(?![\w.])/y, "a number"));
      return number > MOST ? this.#wrong("has a number that is too large") : number;
    }
    // A number that does not count, a truth value or the name of an enumeration's.
    if (kind === "left out") this.#match(/-?[\w.]+/y, "a value");
    else this.#wrong("has a field of another type");
    return 0n;
  }

  #string(): Uint8Array {
    const parts: Uint8Array[] = [];
    for (this.#at++; ; ) {
      const letter = this.#text[this.#at];
      if (letter === undefined || letter === "\n") return this.#wrong("ends inside a text");
      if (letter === '"') {
        this.#at++;
        return joined(parts);
      }
      if (letter === "\\") parts.push(this.#escapes());
      else parts.push(encoder.encode(this.#match(/[^"\\\n]+/y, "a text")));
    }
  }

  /** Escapes that follow one another: of bytes that are not text there are thousands. */
  #escapes(): Uint8Array {
    const bytes: number[] = [];
    while (this.#text[this.#at] === "\\") {
      const letter = this.#text[++this.#at] ?? "";
      const plain = Object.hasOwn(escapes, letter) ? escapes[letter] : undefined;
      if (plain !== undefined) {
        bytes.push(plain);
        this.#at++;
      } else if (letter === "x") {
        bytes.push(Number.parseInt(this.#match(/x[\da-f]{2}/y, "an escape").slice(1), 16));
      } else {
        const point = Number.parseInt(this.#match(/u[\da-f]{4}|U00[\da-f]{6}/y, "an escape").slice(1), 16);
        if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
          this.#wrong("has an escape of no character");
        bytes.push(...encoder.encode(String.fromCodePoint(point)));
      }
    }
    return Uint8Array.from(bytes);
  }

  /** The next character that is not white space; nothing at the end. */
  #peek(): string {
    while (" \n\r\t".includes(this.#text[this.#at] ?? "x")) this.#at++;
    return this.#text[this.#at] ?? "";
  }

  #match(pattern: RegExp, what: string): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return this.#wrong(`does not have ${what} there`);
    this.#at += found.length;
    return found;
  }

  #wrong(reason: string, code: "evidence/malformed" | "evidence/unsupported" = "evidence/malformed"): never {
    throw new VerifyError(code, `this text of a protobuf ${reason}`, { where: `character ${this.#at}` });
  }
}

/** However many there are: a call takes only so many arguments. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < parts.length; at += 4096) pieces.push(concat(...parts.slice(at, at + 4096)));
  return concat(...pieces);
}

const varint = (value: bigint): number[] =>
  value < 0x80n ? [Number(value)] : [Number(value & 0x7fn) | 0x80, ...varint(value >> 7n)];

/** A field in the wire format. */
function encoded(field: number, value: bigint | Uint8Array): Uint8Array {
  const tag = BigInt(field) << 3n;
  if (typeof value === "bigint") return Uint8Array.from([...varint(tag), ...varint(value)]);
  return concat(Uint8Array.from([...varint(tag | 2n), ...varint(BigInt(value.length))]), value);
}

export const isProtobufText = (bytes: Uint8Array): boolean => shapeOf(bytes) !== undefined;

/** Reads any of them. Throws VerifyError "evidence/malformed", "evidence/unsupported". */
export function readProtobufText(bytes: Uint8Array): AnyEvidence {
  const encoding = new Text(bytes).message(shapeOf(bytes)!);
  if (isProtobuf(encoding)) return readProtobuf(encoding);
  throw new VerifyError("evidence/malformed", "this text of a protobuf begins like no quote or report");
}
