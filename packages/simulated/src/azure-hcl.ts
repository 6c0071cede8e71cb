// SPDX-License-Identifier: Apache-2.0
/**
 * A virtual TPM as Azure's paravisor binds it to a hardware report, for tests: runtime data that names its key, the HCL report
 * around both, and quotes of PCRs. Proves nothing.
 */
import { createHash, generateKeyPairSync, sign } from "node:crypto";

const u16 = (value: number) => Uint8Array.of(value >> 8, value);
const u32 = (value: number) => Uint8Array.of(value >>> 24, value >> 16, value >> 8, value);
const u32le = (value: number) => u32(value).reverse();
const sized = (bytes: Uint8Array) => Buffer.concat([u16(bytes.length), bytes]);
const sha256 = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();

export interface VirtualTpm {
  /** JSON; what the hardware report's report data hashes. */
  runtimeData: Uint8Array;
  /** 64 bytes, hexadecimal, for the report. */
  reportData: string;
  /** A quote of 24 PCRs (SHA-256), all of them selected unless said otherwise. */
  quote(nonce: Uint8Array, pcrs: readonly Uint8Array[], change?: QuoteChange): TpmQuoteParts;
}

export interface QuoteChange {
  /** Bits of the first 24 PCRs. */
  selection?: [number, number, number];
  magic?: number;
  type?: number;
  bank?: number;
  behind?: Uint8Array;
}

export interface TpmQuoteParts {
  message: Uint8Array;
  signature: Uint8Array;
  pcrs: Uint8Array[];
}

/** A TPM with a fresh key; `text` makes its runtime data otherwise than the paravisor does. */
export function virtualTpm(text: (key: { n: string; e: string }) => string = usualText): VirtualTpm {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const { n, e } = publicKey.export({ format: "jwk" }) as { n: string; e: string };
  const runtimeData = new Uint8Array(Buffer.from(text({ n, e })));
  return {
    runtimeData,
    reportData: `${sha256(runtimeData).toString("hex")}${"00".repeat(32)}`,
    quote(
      nonce,
      pcrs,
      {
        selection = [0xff, 0xff, 0xff],
        magic = 0xff544347,
        type = 0x8018,
        bank = 0x000b,
        behind = new Uint8Array(),
      } = {},
    ) {
      const chosen = pcrs.filter((_, i) => (selection[i >> 3]! & (1 << (i & 7))) !== 0);
      // TPMS_ATTEST (TPM 2.0, part 2, 10.12.12): clock information and firmware version in between.
      const message = Buffer.concat([
        u32(magic),
        u16(type),
        sized(Buffer.alloc(34, 1)),
        sized(nonce),
        Buffer.alloc(8 + 4 + 4 + 1 + 8),
        u32(1),
        u16(bank),
        Uint8Array.of(3, ...selection),
        sized(sha256(...chosen)),
        behind,
      ]);
      return {
        message: new Uint8Array(message),
        signature: new Uint8Array(sign("sha256", message, privateKey)),
        pcrs: pcrs.map((value) => new Uint8Array(value)),
      };
    },
  };
}

const usualText = ({ n, e }: { n: string; e: string }): string =>
  JSON.stringify({
    keys: [{ kid: "HCLAkPub", key_ops: ["sign"], kty: "RSA", e, n }],
    "vm-configuration": { "secure-boot": true, "tpm-enabled": true },
  });

/** The report as a guest reads it from its TPM; `kind` 2 is SEV-SNP's, 4 a TD's. */
export function hclReport(kind: 2 | 4, hardware: Uint8Array, runtimeData: Uint8Array): Uint8Array {
  const area = new Uint8Array(1184);
  area.set(hardware.subarray(0, 1184));
  return new Uint8Array(
    Buffer.concat([
      Buffer.from("HCLA"),
      ...[1, 1216 + 20 + runtimeData.length, 2, 0, 0, 0, 0].map(u32le),
      area,
      ...[runtimeData.length + 20, 1, kind, 1, runtimeData.length].map(u32le),
      runtimeData,
    ]),
  );
}
