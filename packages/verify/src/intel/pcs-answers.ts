// SPDX-License-Identifier: Apache-2.0
/**
 * What Intel's PCS, a PCCS or a mirror answers, in whatever encoding, in the form of collateral here. Nothing is judged. What
 * Intel signed is cut out of its text by position, never written anew.
 */
import { fromBase64, fromHex, fromUtf8, toHex } from "@caisson/vocabulary/bytes";

/** The exact text of the first member of an answer, and the signature beside it; undefined for anything else. */
export function signedParts(answer: string, member: string): { json: string; signature: string } | undefined {
  const text = answer.trim();
  const start = new RegExp(`^\\{\\s*"${member}"\\s*:\\s*`).exec(text)?.[0].length;
  const end = /\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]*)"\s*\}$/.exec(text);
  if (start === undefined || end === null) return undefined;
  return { json: text.slice(start, end.index), signature: end[1]! };
}

/**
 * A chain from a header: percent-encoded, once or (some proxies) twice, or plain. A plus is a plus. Undefined where it is not
 * encoded as it should be.
 */
export function chainOfHeader(header: string): string | undefined {
  let text = header;
  try {
    for (let i = 0; i < 2 && text.includes("%"); i++) text = decodeURIComponent(text);
  } catch {
    return undefined;
  }
  // PEM has no percent sign; a header cannot have line breaks, so that some servers write spaces for them.
  return text.includes("\n") ? text : unfolded(text);
}

function unfolded(text: string): string {
  return text.replace(
    /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----\s*/g,
    (_, body: string) => {
      const lines = body.replace(/\s+/g, "").match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
    },
  );
}

/** The DER of a list of revocations in DER, PEM, hexadecimal or base64; undefined for anything else. */
export function listBytes(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes[0] === 0x30 && bytes[1] !== undefined && bytes[1] >= 0x80) return bytes;
  const text = fromUtf8(bytes).trim().replace(/^"|"$/g, "");
  const block = /^-----BEGIN X509 CRL-----([^-]+)-----END X509 CRL-----$/.exec(text)?.[1];
  const packed = (block ?? text).replace(/\s+/g, "");
  return (block === undefined ? fromHex(packed) : undefined) ?? fromBase64(packed);
}

/** One answer as it came. */
export interface PcsAnswer {
  /** Of its address. */
  path: string;
  /** By its name in lower case. */
  header: (name: string) => string | undefined;
  body: Uint8Array;
}

/** Headers with the chains of each kind of answer; of API v3, too. */
export const chainHeaders = {
  tcb: ["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"],
  identity: ["sgx-enclave-identity-issuer-chain"],
  pckCrl: ["sgx-pck-crl-issuer-chain"],
} as const;

/** Collateral from a set of answers, by their paths; undefined where one is missing or is not what it should be. */
export function collateralOfAnswers(answers: readonly PcsAnswer[]): Record<string, string> | undefined {
  const find = (path: RegExp) => answers.find((one) => path.test(one.path));
  const tcb = find(/\/certification\/v[34]\/tcb$/);
  const qe = find(/\/certification\/v[34]\/qe\/identity$/);
  const pckCrl = find(/\/certification\/v[34]\/pckcrl$/);
  const rootCrl = find(/\/(?:IntelSGXRootCA\.(?:der|crl)|rootcacrl)$/);
  if (tcb === undefined || qe === undefined || pckCrl === undefined || rootCrl === undefined)
    return undefined;
  const chain = ({ header }: PcsAnswer, names: readonly string[]) =>
    chainOfHeader(names.map(header).find((value) => value !== undefined) ?? "") ?? "";
  const [info, identity] = [
    signedParts(fromUtf8(tcb.body), "tcbInfo"),
    signedParts(fromUtf8(qe.body), "enclaveIdentity"),
  ];
  const [pckList, rootList] = [listBytes(pckCrl.body), listBytes(rootCrl.body)];
  if (info === undefined || identity === undefined || pckList === undefined || rootList === undefined)
    return undefined;
  return {
    pck_crl_issuer_chain: chain(pckCrl, chainHeaders.pckCrl),
    root_ca_crl: toHex(rootList),
    pck_crl: toHex(pckList),
    tcb_info_issuer_chain: chain(tcb, chainHeaders.tcb),
    tcb_info: info.json,
    tcb_info_signature: info.signature,
    qe_identity_issuer_chain: chain(qe, chainHeaders.identity),
    qe_identity: identity.json,
    qe_identity_signature: identity.signature,
  };
}
