// SPDX-License-Identifier: Apache-2.0
/** Quotes of a hierarchy's platform, for any field values and of each format. */
import { createHash } from "node:crypto";
import { type Hierarchy, type QeSpec, tdxModuleSvn } from "./pki.ts";

const hexBytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const sha256 = (...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(createHash("sha256").update(Buffer.concat(parts)).digest());

/** Fields of a TD report; all but the registers and report data have defaults. Hexadecimal. */
export interface TdSpec {
  teeTcbSvn: string;
  mrSeam: string;
  mrSignerSeam: string;
  seamAttributes: string;
  tdAttributes: string;
  xfam: string;
  mrTd: string;
  mrConfigId: string;
  mrOwner: string;
  mrOwnerConfig: string;
  rtmr0: string;
  rtmr1: string;
  rtmr2: string;
  rtmr3: string;
  reportData: string;
  teeTcbSvn2: string;
  mrServiceTd: string;
  /** What a TD report 1.5 extended adds: 237 bytes. */
  extension: string;
}

const zeros = (bytes: number): string => "00".repeat(bytes);

const defaultTd: TdSpec = {
  teeTcbSvn: tdxModuleSvn,
  mrSeam: zeros(48),
  mrSignerSeam: zeros(48),
  seamAttributes: zeros(8),
  // SEPT_VE_DISABLE, as Linux demands.
  tdAttributes: "0000001000000000",
  xfam: "e702060000000000",
  mrTd: zeros(48),
  mrConfigId: zeros(48),
  mrOwner: zeros(48),
  mrOwnerConfig: zeros(48),
  rtmr0: zeros(48),
  rtmr1: zeros(48),
  rtmr2: zeros(48),
  rtmr3: zeros(48),
  reportData: zeros(64),
  teeTcbSvn2: tdxModuleSvn,
  mrServiceTd: zeros(48),
  // Not partitioned, an id of its own, nothing else.
  extension: `00${"77".repeat(32)}${zeros(204)}`,
};

/** Which quote: version 3 (SGX), 4 (TD 1.0), or 5 with a TD 1.0, TD 1.5 or extended TD 1.5 body. */
export type QuoteFormat = "sgx-v3" | "td10-v4" | "td10-v5" | "td15-v5" | "td15ex-v5";

const bodyFields: Record<Exclude<QuoteFormat, "sgx-v3">, readonly (keyof TdSpec)[]> = (() => {
  const td10 = Object.keys(defaultTd).slice(0, 15) as (keyof TdSpec)[];
  const td15: (keyof TdSpec)[] = [...td10, "teeTcbSvn2", "mrServiceTd"];
  return { "td10-v4": td10, "td10-v5": td10, "td15-v5": td15, "td15ex-v5": [...td15, "extension"] };
})();

const u16 = (value: number) => Uint8Array.of(value & 0xff, value >> 8);
const u32 = (value: number) => Uint8Array.of(value, value >> 8, value >> 16, value >> 24);

function enclaveReport(qe: Omit<QeSpec, "authData">, reportData: Uint8Array): Uint8Array {
  const report = new Uint8Array(384);
  report.set(hexBytes(qe.miscSelect), 16);
  report.set(hexBytes(qe.attributes), 48);
  report.set(hexBytes(qe.mrSigner), 128);
  report.set([...u16(qe.isvProdId), ...u16(qe.isvSvn)], 256);
  report.set(reportData, 320);
  return report;
}

/** Sizes of certification data in the envelope can be wrong only by a change of the finished bytes. */
const envelope = (type: number, data: Uint8Array) => Buffer.concat([u16(type), u32(data.length), data]);

/**
 * A quote of the hierarchy's platform. `td` fields that are left out have defaults (registers zero).
 * @param pckChain PEM for the quote to carry; `mint(h).pckChain`
 */
export function issueQuote(
  h: Hierarchy,
  pckChain: string,
  td: Partial<TdSpec> = {},
  format: QuoteFormat = "td15-v5",
): Uint8Array {
  const version = Number(format.at(-1));
  const fields = { ...defaultTd, ...td };
  const body =
    format === "sgx-v3"
      ? enclaveReport(h.qe, hexBytes(fields.reportData))
      : Buffer.concat(bodyFields[format].map((name) => hexBytes(fields[name])));
  const bodyType = format === "td15ex-v5" ? 4 : format === "td15-v5" ? 3 : 2;
  const descriptor = version === 5 ? [u16(bodyType), u32(body.length)] : [];
  const header = Buffer.concat([
    u16(version),
    u16(2),
    u32(version === 3 ? 0 : 0x81),
    u32(0),
    hexBytes("939a7233f79c4ca9940a0db3957f0607"),
    new Uint8Array(20),
  ]);
  const signed = Buffer.concat([header, ...descriptor, body]);

  const attestationKey = h.keys.attestation.publicKey.subarray(1);
  const binding = new Uint8Array(64);
  binding.set(sha256(attestationKey, h.qe.authData));
  const report = enclaveReport(h.qe, h.qe.reportData ?? binding);
  const certification = Buffer.concat([
    report,
    h.keys.pck.sign(report),
    u16(h.qe.authData.length),
    h.qe.authData,
    envelope(5, Buffer.from(pckChain)),
  ]);
  const signatureData = Buffer.concat([
    h.keys.attestation.sign(signed),
    attestationKey,
    version === 3 ? certification : envelope(6, certification),
  ]);
  return new Uint8Array(Buffer.concat([signed, u32(signatureData.length), signatureData]));
}
