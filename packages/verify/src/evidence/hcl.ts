// SPDX-License-Identifier: Apache-2.0
/**
 * Azure's HCL report: what the paravisor leaves in the virtual TPM's NV index 0x01400001. A hardware report, and runtime data
 * (JSON) whose SHA-256 the hardware report's first 32 bytes of report data are. The runtime data names the TPM's attestation
 * key; a quote of that key then says which PCRs the guest has. The hardware report itself covers the paravisor alone.
 */
import { concat, equal, fromBase64, fromHex, fromUtf8, isZero, toHex } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { parseJson } from "@caisson/vocabulary/json";
import { list, object, oneOf, readAt, SchemaError, text } from "@caisson/vocabulary/schema";
import { digest, importRsa, type PublicKey, verifyPkcs1 } from "#crypto";
import { VerifyError } from "../errors.ts";
import type { Answers } from "../report.ts";

/** A TPM's quote and the PCRs that it is said to cover: the SHA-256 bank, 24 values. */
export interface TpmQuote {
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
  readonly pcrs: readonly Uint8Array[];
}

/** What of an HCL report belongs beside the hardware report. */
export interface Hcl {
  /** The JSON text, exactly as it was hashed. */
  readonly runtimeData: Uint8Array;
  readonly quote?: TpmQuote;
}

/** What a verified HCL report says of the guest. */
export interface GenuineHcl {
  /** PCR values by number that the TPM's quote covers; undefined without a quote. */
  readonly pcrs: ReadonlyMap<number, string> | undefined;
  /** What the quote was asked to carry: the verifier's nonce. */
  readonly extraData: Uint8Array | undefined;
}

const HEADER = 32;
const HARDWARE = 1184;
const RUNTIME = HEADER + HARDWARE;
const RUNTIME_HEADER = 20;
/** Report types of the runtime data's header. */
const reportTypes: Readonly<Record<number, "snp" | "tdx">> = { 2: "snp", 4: "tdx" };

function malformed(what: string): never {
  throw new VerifyError("evidence/malformed", `this HCL report is malformed: ${what}`);
}

/** Takes an HCL report apart; behind it only zeros may follow. Throws VerifyError "evidence/malformed". */
export function readHclReport(bytes: Uint8Array): {
  kind: "snp" | "tdx";
  hardware: Uint8Array;
  runtimeData: Uint8Array;
} {
  if (bytes.length < RUNTIME + RUNTIME_HEADER || fromUtf8(bytes.subarray(0, 4)) !== "HCLA")
    malformed("no header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const number = (at: number) => view.getUint32(at, true);
  if (![1, 2].includes(number(4)) || number(12) !== 2 || number(16) !== 0) {
    malformed("its version, request type or status");
  }
  const [whole, data, length] = [number(8), number(RUNTIME), number(RUNTIME + 16)];
  if (data !== RUNTIME_HEADER + length || whole !== RUNTIME + data || !isZero(bytes.subarray(20, HEADER))) {
    malformed("its sizes or reserved bytes");
  }
  const kind = reportTypes[number(RUNTIME + 8)] ?? malformed("the kind of its hardware report");
  if (number(RUNTIME + 4) !== 1 || number(RUNTIME + 12) !== 1)
    malformed("its runtime data's version or hash");
  const start = RUNTIME + RUNTIME_HEADER;
  const end = start + length;
  if (end > bytes.length || !isZero(bytes.subarray(end))) malformed("the length of its runtime data");
  return { kind, hardware: bytes.subarray(HEADER, RUNTIME), runtimeData: bytes.subarray(start, end) };
}

const runtimeSchema = object(
  {
    keys: list(
      object(
        {
          kid: text("a name", /^/, 64),
          kty: oneOf("RSA"),
          n: text("base64url", /^/, 1024),
          e: oneOf("AQAB"),
        },
        "loose",
      ),
      1,
      8,
    ),
  },
  "loose",
);

/** SubjectPublicKeyInfo of an RSA key of 2048 bits and exponent 65537, around its modulus. */
const rsaPrefix = fromHex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100")!;
const rsaSuffix = fromHex("0203010001")!;

/** The attestation key that the runtime data names. */
async function attestationKey(runtimeData: Uint8Array): Promise<PublicKey> {
  const wrong = (why: string): never => {
    throw new VerifyError("hcl/key", `the runtime data names no attestation key of a TPM: ${why}`);
  };
  let modulus: Uint8Array | undefined;
  try {
    const { keys } = readAt("", runtimeSchema, parseJson(fromUtf8(runtimeData)));
    const named = keys.filter(({ kid }) => kid === "HCLAkPub");
    const n = (named.length === 1 ? named[0]!.n : "").replaceAll("-", "+").replaceAll("_", "/");
    modulus = fromBase64(n.padEnd(Math.ceil(n.length / 4) * 4, "="));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof SchemaError)) throw error;
    wrong(messageOf(error));
  }
  if (modulus?.length !== 256 || modulus[0]! < 0x80) wrong("HCLAkPub is not one RSA key of 2048 bits");
  return (await importRsa(concat(rsaPrefix, modulus!, rsaSuffix), "pkcs1")) ?? wrong("it cannot be used");
}

const TPM_SHA256 = 0x000b;

interface Attested {
  extraData: Uint8Array;
  selected: number[];
  pcrDigest: Uint8Array;
}

/** TPMS_ATTEST of a quote (TPM 2.0, part 2, 10.12.8), one bank of PCRs. Undefined for anything else. */
function readAttest(message: Uint8Array): Attested | undefined {
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  let at = 0;
  const take = (size: number) => {
    if (size > message.length - at) throw new RangeError("the message ends");
    at += size;
    return at - size;
  };
  const sized = () => {
    const size = view.getUint16(take(2));
    const start = take(size);
    return message.subarray(start, start + size);
  };
  try {
    if (view.getUint32(take(4)) !== 0xff544347 || view.getUint16(take(2)) !== 0x8018) return undefined;
    sized();
    const extraData = sized();
    // Clock, reset and restart counts, safe, firmware version.
    take(8 + 4 + 4 + 1 + 8);
    if (view.getUint32(take(4)) !== 1 || view.getUint16(take(2)) !== TPM_SHA256) return undefined;
    const size = message[take(1)]!;
    if (size > 3) return undefined;
    const start = take(size);
    const selected = Array.from({ length: 24 }, (_, i) => i).filter(
      (i) => i < 8 * size && (message[start + (i >> 3)]! & (1 << (i & 7))) !== 0,
    );
    const pcrDigest = sized();
    return at === message.length ? { extraData, selected, pcrDigest } : undefined;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/**
 * Verifies that the hardware report's report data binds the runtime data, and the TPM's quote under the key in it.
 * @param reportData the hardware report's 64 bytes; the report itself is verified elsewhere
 * @throws VerifyError "hcl/…"
 */
export async function verifyHcl(
  { runtimeData, quote }: Hcl,
  reportData: Uint8Array,
  answers: Answers,
): Promise<GenuineHcl> {
  const hash = await digest("sha256", runtimeData);
  if (!equal(reportData.subarray(0, 32), hash) || !isZero(reportData.subarray(32))) {
    throw new VerifyError("hcl/binding", "the hardware report does not bind this runtime data", {
      expected: toHex(reportData),
      actual: toHex(hash),
    });
  }
  answers.pass("hcl/report", { actual: `runtime data ${toHex(hash)}` });
  if (quote === undefined) {
    answers.notChecked(
      "hcl/tpm-quote",
      "there is no quote of the virtual TPM: the guest's own PCRs are not known",
    );
    return { pcrs: undefined, extraData: undefined };
  }
  const key = await attestationKey(runtimeData);
  if (!(await verifyPkcs1(key, quote.signature, quote.message))) {
    throw new VerifyError(
      "hcl/signature",
      "the virtual TPM's quote is not signed by the key that the report binds",
    );
  }
  const attested = readAttest(quote.message);
  if (attested === undefined) {
    throw new VerifyError("hcl/signature", "what the virtual TPM signed is not a quote of SHA-256 PCRs");
  }
  const values = attested.selected.map((index) => quote.pcrs[index]);
  const known = values.every((value): value is Uint8Array => value?.length === 32);
  if (!known || !equal(await digest("sha256", concat(...values)), attested.pcrDigest)) {
    throw new VerifyError("hcl/pcrs", "the PCRs are not those that the virtual TPM's quote covers", {
      expected: toHex(attested.pcrDigest),
    });
  }
  answers.pass("hcl/tpm-quote", { actual: `PCRs ${attested.selected.join(" ")}` });
  return {
    pcrs: new Map(attested.selected.map((index, i) => [index, toHex(values[i]!)])),
    extraData: attested.extraData,
  };
}
