// SPDX-License-Identifier: Apache-2.0
/**
 * Attestation documents of AWS Nitro: COSE_Sign1 (RFC 9052, 4.2) around a CBOR map (AWS, Nitro Enclaves, verifying the root
 * of trust; AWS, attestation documents of NitroTPM). Strict: every member must be known and of its size, once.
 */
import { concat } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import { CborError, type CborValue, cborBytes, cborText, decodeCbor } from "../pki/cbor.ts";

/** Which machine signed, by the name of its registers. */
export type NitroKind = "enclave" | "tpm";

/** What a document says; nothing about it is verified yet. */
export interface NitroDocument {
  readonly kind: NitroKind;
  readonly moduleId: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** SHA-384, 48 bytes each, by number. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** DER. */
  readonly certificate: Uint8Array;
  /** DER of those above it, the root first. */
  readonly cabundle: readonly Uint8Array[];
  readonly publicKey: Uint8Array | undefined;
  readonly userData: Uint8Array | undefined;
  readonly nonce: Uint8Array | undefined;
  /** `Sig_structure`: what is signed. */
  readonly signed: Uint8Array;
  /** r ‖ s, 96 bytes. */
  readonly signature: Uint8Array;
}

/** Tag of COSE_Sign1, which may stand before one. */
const COSE_SIGN1 = 18;
const ES384 = -35;
/** Bounds of AWS's description. */
const limits = { document: 16 << 10, moduleId: 256, certificate: 1024, cabundle: 8, field: 1024, pcr: 31 };

const wrong = (what: string, where?: string): never => {
  throw new VerifyError(
    "nitro/malformed",
    `this Nitro document is malformed: ${what}`,
    where === undefined ? {} : { where },
  );
};

function decode(bytes: Uint8Array, what: string, tag?: number): CborValue {
  try {
    return decodeCbor(bytes, tag);
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
    return wrong(error.message, what);
  }
}

/** Whether bytes look like such a document: an array of four whose first member is a byte string. */
export const isNitroDocument = (bytes: Uint8Array): boolean =>
  (bytes[0] === 0x84 && bytes[1]! >> 5 === 2) || (bytes[0] === 0xd2 && bytes[1] === 0x84);

/** Reads a document. Throws VerifyError "nitro/malformed", "nitro/algorithm". */
export function parseNitro(bytes: Uint8Array): NitroDocument {
  if (bytes.length > limits.document) return wrong(`it has more than ${limits.document} bytes`);
  const parts = decode(bytes, "COSE_Sign1", COSE_SIGN1);
  if (!Array.isArray(parts) || parts.length !== 4) return wrong("not an array of four", "COSE_Sign1");
  const [header, unprotectedHeader, payload, signature] = parts;
  if (!(header instanceof Uint8Array && payload instanceof Uint8Array && signature instanceof Uint8Array)) {
    return wrong("header, payload and signature are byte strings", "COSE_Sign1");
  }
  checkAlgorithm(decode(header, "its header"));
  if (!(unprotectedHeader instanceof Map) || unprotectedHeader.size !== 0) {
    return wrong("there is an unprotected header", "COSE_Sign1");
  }
  if (signature.length !== 96) return wrong("a signature of P-384 has 96 bytes", "COSE_Sign1");
  return {
    ...readPayload(decode(payload, "its payload")),
    // An array of four: context, header, external data, payload.
    signed: concat(
      Uint8Array.of(0x84),
      cborText("Signature1"),
      cborBytes(header),
      cborBytes(new Uint8Array()),
      cborBytes(payload),
    ),
    signature,
  };
}

function checkAlgorithm(header: CborValue): void {
  const named = header instanceof Map ? header.get(1) : undefined;
  if (named === ES384 && (header as ReadonlyMap<number, CborValue>).size === 1) return;
  throw new VerifyError("nitro/algorithm", "a Nitro document names one algorithm and nothing else", {
    expected: `${ES384} (ECDSA with SHA-384)`,
    actual: named === undefined || typeof named === "object" ? "none" : `${named}`,
  });
}

const members = ["module_id", "digest", "timestamp", "pcrs", "nitrotpm_pcrs", "certificate", "cabundle"];
const optionalMembers = ["public_key", "user_data", "nonce"];

function readPayload(payload: CborValue): Omit<NitroDocument, "signed" | "signature"> {
  if (!(payload instanceof Map)) return wrong("not a map", "payload");
  for (const name of payload.keys()) {
    if (![...members, ...optionalMembers].includes(name as string)) wrong("an unknown member", `${name}`);
  }
  const bytesOf = (name: string, least: number, most: number, value = payload.get(name)): Uint8Array =>
    value instanceof Uint8Array && value.length >= least && value.length <= most
      ? value
      : wrong(`expected ${least} to ${most} bytes`, name);
  const field = (name: string) => {
    const value = payload.get(name);
    return value === undefined || value === null ? undefined : bytesOf(name, 0, limits.field);
  };
  const moduleId = payload.get("module_id");
  if (typeof moduleId !== "string" || !/^[\x20-\x7e]+$/.test(moduleId) || moduleId.length > limits.moduleId) {
    return wrong("expected a name in ASCII", "module_id");
  }
  if (payload.get("digest") !== "SHA384") return wrong("expected SHA384", "digest");
  const timestamp = payload.get("timestamp");
  // 2001 to 2100.
  if (typeof timestamp !== "number" || timestamp < 1e12 || timestamp > 4.1e12) {
    return wrong("expected milliseconds since 1970", "timestamp");
  }
  const cabundle = payload.get("cabundle");
  if (!Array.isArray(cabundle) || cabundle.length === 0 || cabundle.length > limits.cabundle) {
    return wrong(`expected 1 to ${limits.cabundle} certificates`, "cabundle");
  }
  return {
    ...readPcrs(payload),
    moduleId,
    timestamp,
    certificate: bytesOf("certificate", 1, limits.certificate),
    cabundle: cabundle.map((one) => bytesOf("cabundle", 1, limits.certificate, one)),
    publicKey: field("public_key"),
    userData: field("user_data"),
    nonce: field("nonce"),
  };
}

function readPcrs(payload: ReadonlyMap<string | number, CborValue>): Pick<NitroDocument, "kind" | "pcrs"> {
  const [ofEnclave, ofTpm] = [payload.get("pcrs"), payload.get("nitrotpm_pcrs")];
  if ((ofEnclave === undefined) === (ofTpm === undefined))
    return wrong("expected either pcrs or nitrotpm_pcrs");
  const name = ofTpm === undefined ? "pcrs" : "nitrotpm_pcrs";
  const given = ofTpm ?? ofEnclave;
  if (!(given instanceof Map) || given.size === 0) return wrong("expected a map", name);
  const pcrs = new Map<number, Uint8Array>();
  for (const [index, value] of given) {
    if (typeof index !== "number" || index < 0 || index > limits.pcr)
      return wrong("a number that no PCR has", name);
    if (!(value instanceof Uint8Array) || value.length !== 48) return wrong("a PCR has 48 bytes", name);
    pcrs.set(index, value);
  }
  return { kind: ofTpm === undefined ? "enclave" : "tpm", pcrs };
}
