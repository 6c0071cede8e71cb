// SPDX-License-Identifier: Apache-2.0
/**
 * A test hierarchy that plays AWS Nitro: root, two authorities, the key of one machine, and documents that it signs.
 * Its root is trusted by nobody who does not name it. As in `amd-pki.ts`, a test may change any of the description
 * before it is signed.
 */
import { createHash, sign } from "node:crypto";
import { der, integer, namedBits, oid, sequence } from "@caisson/verify/der-writer";
import { type AmdCertificateSpec, issueAmdCertificate, type KeyPair, p384Key } from "./amd-pki.ts";
import type { ExtensionSpec } from "./certificates.ts";
import type { Times } from "./pki.ts";

/** What is put into a document; a Map keeps its order and may have numbers for keys. */
export type CborInput = number | string | null | Uint8Array | CborInput[] | Map<string | number, CborInput>;

/** CBOR in its shortest form, but for maps without a stated length, which AWS's payloads are: `open`. */
export function encodeCbor(value: CborInput, open = false): Uint8Array {
  if (value === null) return Uint8Array.of(0xf6);
  if (typeof value === "number") return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === "string")
    return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.length), value]);
  if (Array.isArray(value))
    return Buffer.concat([head(4, value.length), ...value.map((one) => encodeCbor(one))]);
  const members = [...value].flatMap(([key, member]) => [encodeCbor(key), encodeCbor(member)]);
  return open
    ? Buffer.concat([Uint8Array.of(0xbf), ...members, Uint8Array.of(0xff)])
    : Buffer.concat([head(5, value.size), ...members]);
}

function head(type: number, value: number): Uint8Array {
  const size = value < 24 ? 0 : value < 0x100 ? 1 : value < 0x1_0000 ? 2 : value < 0x1_0000_0000 ? 4 : 8;
  const whole = Buffer.alloc(1 + size);
  whole[0] = (type << 5) | (size === 0 ? value : 24 + Math.log2(size));
  if (size === 8) whole.writeBigUInt64BE(BigInt(value), 1);
  else if (size > 0) whole.writeUIntBE(value, 1, size);
  return whole;
}

/** The whole hierarchy and one document, described and not yet signed. */
export interface NitroHierarchy {
  /** The root, those below it, the machine's. */
  chain: AmdCertificateSpec[];
  key: KeyPair;
  header: CborInput;
  unprotected: CborInput;
  payload: Map<string | number, CborInput>;
}

export interface NitroMinted {
  document: Uint8Array;
  root: { name: string; keySha256: string };
}

const ecdsaSha384 = sequence(oid("1.2.840.10045.4.3.3"));
const yes = der(0x01, Uint8Array.of(0xff));
const digitalSignature = 0x8000;
const certSign = 0x0400;

/** The uncompressed point of a key. */
const pointOf = ({ publicKey }: KeyPair): Uint8Array =>
  publicKey.export({ type: "spki", format: "der" }).subarray(-97);
const keyId = (key: KeyPair) => createHash("sha1").update(pointOf(key)).digest();

/** Describes a hierarchy in good order. */
export function nitroHierarchy({ issued, expires }: Times, kind: "tpm" | "enclave" = "tpm"): NitroHierarchy {
  const keys = Array.from({ length: 4 }, p384Key);
  const names = ["aws.nitro-enclaves", "d3c9.us-east-1", "db5d.zonal.us-east-1", "i-0123.us-east-1.aws"];
  const chain = keys.map((key, i): AmdCertificateSpec => {
    const issuerKey = keys[Math.max(0, i - 1)]!;
    const authority: ExtensionSpec[] = [
      { oid: "2.5.29.14", value: der(0x04, keyId(key)) },
      { oid: "2.5.29.15", critical: true, value: namedBits(certSign | digitalSignature) },
      {
        oid: "2.5.29.19",
        critical: true,
        value: i === 0 ? sequence(yes) : sequence(yes, integer(2 - i)),
      },
    ];
    const signer: ExtensionSpec[] = [
      { oid: "2.5.29.19", critical: true, value: sequence() },
      { oid: "2.5.29.15", value: namedBits(digitalSignature) },
    ];
    return {
      subject: names[i]!,
      issuer: names[Math.max(0, i - 1)]!,
      issuerKey,
      key,
      serial: 0x1000 + i,
      algorithm: ecdsaSha384,
      saltLength: 0,
      notBefore: issued,
      notAfter: expires,
      extensions: [
        ...(i === 0 || i === 3 ? [] : [{ oid: "2.5.29.35", value: sequence(der(0x80, keyId(issuerKey))) }]),
        ...(i === 3 ? signer : authority),
      ],
    };
  });
  const pcrs = new Map<string | number, CborInput>(
    Array.from({ length: 16 }, (_, i) => [i, Buffer.alloc(48, i % 3 === 2 ? 0 : i + 1)]),
  );
  const payload = new Map<string | number, CborInput>([
    ["module_id", "i-0123456789abcdef0"],
    ["digest", "SHA384"],
    ["timestamp", issued.getTime() + 60_000],
    [kind === "tpm" ? "nitrotpm_pcrs" : "pcrs", pcrs],
    ["certificate", null],
    ["cabundle", []],
    ["public_key", Buffer.from("a key")],
    ["user_data", null],
    ["nonce", Buffer.alloc(32, 7)],
  ]);
  return { chain, key: keys[3]!, header: new Map([[1, -35]]), unprotected: new Map(), payload };
}

/** Signs it. Certificates that the payload has already stay. */
export function mintNitro({ chain, key, header, unprotected, payload }: NitroHierarchy): NitroMinted {
  const certificates = chain.map(issueAmdCertificate);
  const whole = new Map(payload);
  if (whole.get("certificate") === null) whole.set("certificate", certificates.at(-1)!);
  const bundle = whole.get("cabundle");
  if (Array.isArray(bundle) && bundle.length === 0) whole.set("cabundle", certificates.slice(0, -1));
  const protectedHeader = encodeCbor(header);
  const bytes = encodeCbor(whole, true);
  const signed = encodeCbor(["Signature1", protectedHeader, new Uint8Array(), bytes]);
  const signature = sign("sha384", signed, { key: key.privateKey, dsaEncoding: "ieee-p1363" });
  return {
    document: new Uint8Array(encodeCbor([protectedHeader, unprotected, bytes, signature])),
    root: {
      name: "a test root that plays AWS's",
      keySha256: createHash("sha256").update(pointOf(chain[0]!.key)).digest("hex"),
    },
  };
}
