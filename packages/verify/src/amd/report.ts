// SPDX-License-Identifier: Apache-2.0
/**
 * The SEV-SNP attestation report, 1184 bytes (AMD 56860, SEV-SNP firmware ABI, ATTESTATION_REPORT; version 5 from its
 * revision 1.58 on). Read strictly: what is reserved must be zero, and a version that is not known is refused by name.
 */
import { isZero, toHex } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import type { CpuId } from "./products.ts";

export const REPORT_SIZE = 1184;
const SIGNED = 0x2a0;
/** Of what is looked at more than once. */
const offsets = {
  version: 0,
  policy: 0x08,
  vmpl: 0x30,
  algorithm: 0x34,
  platformInfo: 0x40,
  keyInfo: 0x48,
} as const;

/** Version of the SEV firmware: major.minor.build. */
export type FirmwareVersion = string;

/** A parsed report; nothing about it is verified yet. TCB versions are 8 bytes, whose meaning the product says. */
export interface SnpReport {
  readonly version: number;
  readonly guestSvn: number;
  readonly policy: bigint;
  readonly familyId: Uint8Array;
  readonly imageId: Uint8Array;
  readonly vmpl: number;
  readonly platformInfo: bigint;
  readonly authorKeyEnabled: boolean;
  /** Who signs: the chip's own key, its provider's, or nobody. */
  readonly signingKey: "vcek" | "vlek" | "none";
  readonly reportData: Uint8Array;
  readonly measurement: Uint8Array;
  readonly hostData: Uint8Array;
  readonly idKeyDigest: Uint8Array;
  readonly authorKeyDigest: Uint8Array;
  readonly reportId: Uint8Array;
  /** All ff where there is no migration agent. */
  readonly reportIdMa: Uint8Array;
  /** From version 3 on. */
  readonly cpu: CpuId | undefined;
  readonly chipId: Uint8Array;
  readonly tcb: Readonly<Record<TcbKind, Uint8Array>>;
  readonly currentFirmware: FirmwareVersion;
  readonly committedFirmware: FirmwareVersion;
  /** Mitigations that were in force: version 5. */
  readonly mitigations: { readonly launch: bigint; readonly current: bigint } | undefined;
  readonly signed: Uint8Array;
  /** r ‖ s, 96 bytes, big-endian. */
  readonly signature: Uint8Array;
  /** The first thing that is not zero and should be. A report with some is never accepted. */
  readonly strange: VerifyError | undefined;
}

/**
 * What runs; what the host chose to report, and the signing key is derived from; what the firmware cannot be rolled back
 * below; what ran when the guest was launched.
 */
export const tcbKinds = ["reported", "current", "committed", "launch"] as const;
export type TcbKind = (typeof tcbKinds)[number];

/** Bits of the guest's policy. Those of `permits` loosen it when they are set, those of `demands` tighten it. */
export const policyBits = {
  permits: { smt: 16, "migration-agent": 18, debug: 19, cxl: 21 },
  demands: {
    "single-socket": 20,
    "aes-256-xts": 22,
    "rapl-off": 23,
    "ciphertext-hiding": 24,
    "page-swap-off": 25,
  },
} as const;
/** Bit 17 must be one; from 26 on all are reserved. */
const POLICY_ONE = 1n << 17n;
const POLICY_RESERVED = ~((1n << 26n) - 1n) & 0xffffffffffffffffn;

/** Bits of PLATFORM_INFO. */
export const platformBits = {
  smt: 0,
  tsme: 1,
  ecc: 2,
  "rapl-off": 3,
  "ciphertext-hiding": 4,
  /** Memory was searched for aliases (BadRAM, CVE-2024-21944). */
  "alias-check": 5,
  /** The IOMMU writes nothing where it must not (AMD-SB-3016, CVE-2023-20585). */
  "iommu-write-safe": 6,
  "sev-tio": 7,
} as const;
const PLATFORM_KNOWN = Object.values(platformBits).reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);

export const hasBit = (value: bigint, bit: number): boolean => ((value >> BigInt(bit)) & 1n) === 1n;

/**
 * Reads a report of exactly 1184 bytes. Throws VerifyError "snp/…". What should be zero and is not, is in `strange`: newer
 * firmware may have signed it, or somebody changed it, which the signature tells.
 */
export function parseReport(bytes: Uint8Array): SnpReport {
  if (bytes.length !== REPORT_SIZE) {
    throw new VerifyError("snp/size", "a SEV-SNP report has another size", {
      expected: `${REPORT_SIZE} bytes`,
      actual: `${bytes.length}`,
    });
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  checkKnown(view);
  const at = (offset: number, size: number) => bytes.subarray(offset, offset + size);
  const number = (offset: number) => view.getUint32(offset, true);
  const long = (offset: number) => view.getBigUint64(offset, true);
  const version = number(offsets.version);
  const keyInfo = number(offsets.keyInfo);
  return {
    version,
    guestSvn: number(0x04),
    policy: long(offsets.policy),
    familyId: at(0x10, 16),
    imageId: at(0x20, 16),
    vmpl: number(offsets.vmpl),
    platformInfo: long(offsets.platformInfo),
    authorKeyEnabled: (keyInfo & 1) === 1,
    signingKey: readSigningKey(keyInfo),
    reportData: at(0x50, 64),
    measurement: at(0x90, 48),
    hostData: at(0xc0, 32),
    idKeyDigest: at(0xe0, 48),
    authorKeyDigest: at(0x110, 48),
    reportId: at(0x140, 32),
    reportIdMa: at(0x160, 32),
    cpu: version < 3 ? undefined : { family: bytes[0x188]!, model: bytes[0x189]!, stepping: bytes[0x18a]! },
    chipId: at(0x1a0, 64),
    tcb: { reported: at(0x180, 8), current: at(0x38, 8), committed: at(0x1e0, 8), launch: at(0x1f0, 8) },
    currentFirmware: firmware(at(0x1e8, 3)),
    committedFirmware: firmware(at(0x1ec, 3)),
    mitigations: version < 5 ? undefined : { launch: long(0x1f8), current: long(0x200) },
    signed: bytes.subarray(0, SIGNED),
    signature: readSignature(bytes),
    strange: strangeness(bytes, view),
  };
}

/** Refuses a report whose version, signature algorithm or privilege level is not known here. */
function checkKnown(view: DataView): void {
  const version = view.getUint32(offsets.version, true);
  if (version < 2 || version > 5) {
    throw new VerifyError("snp/version", "a SEV-SNP report of a version that is not known here", {
      expected: "2 to 5",
      actual: `${version}`,
    });
  }
  const algorithm = view.getUint32(offsets.algorithm, true);
  if (algorithm !== 1) {
    throw new VerifyError("snp/algorithm", "the signature algorithm is not ECDSA P-384 with SHA-384", {
      expected: "1",
      actual: `${algorithm}`,
    });
  }
  const vmpl = view.getUint32(offsets.vmpl, true);
  if (vmpl > 3 && vmpl !== 0xffffffff) {
    throw new VerifyError("snp/vmpl", "a privilege level that does not exist", {
      expected: "0 to 3, or ffffffff where the host asked",
      actual: `${vmpl}`,
    });
  }
}

/** The first thing that is not zero and should be. */
function strangeness(bytes: Uint8Array, view: DataView): VerifyError | undefined {
  const version = view.getUint32(offsets.version, true);
  const policy = view.getBigUint64(offsets.policy, true);
  const platformInfo = view.getBigUint64(offsets.platformInfo, true);
  const keyInfo = view.getUint32(offsets.keyInfo, true);
  const bits: [what: string, set: boolean, actual: bigint | number][] = [
    ["reserved policy bits", (policy & POLICY_RESERVED) !== 0n, policy],
    ["bits that contradict policy bit 17 (which is one)", (policy & POLICY_ONE) === 0n, policy],
    ["reserved bits of PLATFORM_INFO", (platformInfo & ~PLATFORM_KNOWN) !== 0n, platformInfo],
    ["reserved bits of the key information", keyInfo >> 5 !== 0, keyInfo],
  ];
  const zeros = [
    [0x4c, 0x50],
    [version < 3 ? 0x188 : 0x18b, 0x1a0],
    [0x1eb, 0x1ec],
    [0x1ef, 0x1f0],
    [version < 5 ? 0x1f8 : 0x208, SIGNED],
    [SIGNED + 48, SIGNED + 72],
    [SIGNED + 72 + 48, SIGNED + 144],
    [SIGNED + 144, REPORT_SIZE],
  ] as const;
  const reserved = (what: string, actual: string) =>
    new VerifyError("snp/reserved", `${what} of this SEV-SNP report are not zero`, { actual });
  const bad = bits.find(([, set]) => set);
  if (bad !== undefined) return reserved(bad[0], `0x${bad[2].toString(16)}`);
  for (const [offset, end] of zeros) {
    const actual = bytes.subarray(offset, end);
    if (!isZero(actual))
      return reserved(`bytes 0x${offset.toString(16)} to 0x${end.toString(16)}`, toHex(actual));
  }
  return undefined;
}

/** Build, minor, major: in this order. */
const firmware = ([build, minor, major]: Uint8Array): FirmwareVersion => `${major}.${minor}.${build}`;

/** MASK_CHIP_KEY takes the signature away, whatever the field says of the key. */
function readSigningKey(keyInfo: number): SnpReport["signingKey"] {
  const key = (keyInfo >> 2) & 7;
  if ((keyInfo & 2) !== 0 || key === 7) return "none";
  if (key === 0) return "vcek";
  if (key === 1) return "vlek";
  throw new VerifyError("snp/signing-key", "the report names a kind of signing key that is not known here", {
    expected: "0 (VCEK), 1 (VLEK) or 7 (none)",
    actual: `${key}`,
  });
}

/** R and S lie there little-endian in 72 bytes each; P-384 fills 48. */
function readSignature(bytes: Uint8Array): Uint8Array {
  const signature = new Uint8Array(96);
  for (const [place, target] of [
    [SIGNED, 0],
    [SIGNED + 72, 48],
  ] as const) {
    signature.set(bytes.slice(place, place + 48).reverse(), target);
  }
  return signature;
}
