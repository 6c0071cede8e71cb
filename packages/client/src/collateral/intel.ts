// SPDX-License-Identifier: Apache-2.0
/**
 * Collateral from Intel's Provisioning Certification Service (API v4), from a PCCS, or from a mirror with their paths. Where
 * they differ (root CRL, encoding of CRLs and headers, names of headers), what each sends is recognised by itself.
 */
import { type Collateral, intelRoot, type TrustAnchor, VerifyError, verifyCollateral } from "@caisson/verify";
import { parseCrl } from "@caisson/verify/crl";
import { chainHeaders, chainOfHeader, listBytes, signedParts } from "@caisson/verify/pcs-answers";

import { fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import { type Answer, ask, type World, wrongAnswer } from "./ask.ts";
import { CollateralError, unverified } from "./errors.ts";
import { type Found, find, type Keeping, type Part, type Provenance } from "./kept.ts";

const PCS = "https://api.trustedservices.intel.com";
/** PCS itself serves no root CRL. */
const PCS_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/** Which collateral. */
export interface IntelPlatform {
  tee: "tdx" | "sgx";
  /** 12 hexadecimal digits. */
  fmspc: string;
  /** Who issued the PCK; TDX hosts have the platform CA's. */
  ca: "platform" | "processor";
}

export interface IntelOptions extends World, Keeping {
  /** "pcs" (default), or the base of a PCCS or mirror. */
  from?: string;
  /** Which set: Intel's default, or the newest from the day of disclosure. A number asks for exactly that one. */
  update?: "standard" | "early" | number;
  /** In place of Intel's root (tests). */
  trust?: TrustAnchor;
}

export interface Fetched<T> {
  collateral: T;
  provenance: Provenance[];
}

interface Signed {
  text: string;
  signature: string;
  chain: string;
}
interface List {
  der: string;
  chain?: string;
}

/** Base of the paths; a source may be named with or without them. Throws CollateralError "collateral/source". */
export function sourceBase(from: string): string {
  const url = URL.parse(from);
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:") || url.search !== "") {
    throw new CollateralError("collateral/source", "usage", `'${from}' is not an address of collateral`, {
      fix: "pcs, or https://HOST[:PORT]",
    });
  }
  return url.href.replace(/\/(?:(?:sgx|tdx)\/certification\/v[34]\/?)?$/, "");
}

/** "pcs", or an address that can be one of collateral. Throws CollateralError "collateral/source". */
export const checkSource = (from: string): string => (from === "pcs" ? from : sourceBase(from));

/**
 * Fetches and verifies: what does not verify at `now` is not kept, and an error. Throws CollateralError.
 */
export async function fetchIntel(
  platform: IntelPlatform,
  options: IntelOptions,
): Promise<Fetched<Collateral>> {
  const fromCache = await assemble(platform, options, false);
  try {
    return await verified(fromCache, options);
  } catch (error) {
    if (options.offline === true || fromCache.every(({ provenance: { from } }) => from === "source")) {
      throw unverified(error, options.from ?? "pcs");
    }
  }
  // A kept part may not go with a new one: all anew, once.
  try {
    return await verified(await assemble(platform, options, true), options);
  } catch (error) {
    throw unverified(error, options.from ?? "pcs");
  }
}

type Parts = [tcb: Found<Signed>, qe: Found<Signed>, pckCrl: Found<List>, rootCrl: Found<List>];

async function assemble(platform: IntelPlatform, options: IntelOptions, fresh: boolean): Promise<Parts> {
  const { from = "pcs", update = "standard" } = options;
  const { tee, ca } = platform;
  // PCCSs take twelve digits, some in upper case alone; everybody takes these.
  const fmspc = platform.fmspc.toUpperCase();
  const base = from === "pcs" ? PCS : sourceBase(from);
  const set = typeof update === "number" ? `tcbEvaluationDataNumber=${update}` : `update=${update}`;
  const name = typeof update === "number" ? `${update}` : update;
  const tcbUrl = `${base}/${tee}/certification/v4/tcb?fmspc=${fmspc}&${set}`;
  const qeUrl = `${base}/${tee}/certification/v4/qe/identity?${set}`;
  const crlUrl = `${base}/sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`;
  const rootUrl = from === "pcs" ? PCS_ROOT_CRL : `${base}/sgx/certification/v4/rootcacrl`;
  const part = <T>(key: string, url: string, read: (url: string, answer: Answer) => Part<T>) =>
    find(key, url, async () => read(url, await ask(url, options)), options, fresh);
  // One after the other: a server that limits requests is not asked four times at once.
  return [
    await part(`tcb/${tee}/${fmspc.toLowerCase()}/${name}`, tcbUrl, (url, answer) =>
      readSigned(url, answer, "tcbInfo", chainHeaders.tcb),
    ),
    await part(`qe/${tee}/${name}`, qeUrl, (url, answer) =>
      readSigned(url, answer, "enclaveIdentity", chainHeaders.identity),
    ),
    await part(`crl/${ca}`, crlUrl, (url, answer) => readList(url, answer, chainHeaders.pckCrl)),
    await part("root-crl", rootUrl, (url, answer) => readList(url, answer, [])),
  ];
}

async function verified(
  parts: Parts,
  { now, trust = intelRoot }: IntelOptions,
): Promise<Fetched<Collateral>> {
  const [tcb, qe, pckCrl, rootCrl] = parts;
  const collateral: Collateral = {
    pck_crl_issuer_chain: pckCrl.value.chain ?? "",
    root_ca_crl: rootCrl.value.der,
    pck_crl: pckCrl.value.der,
    tcb_info_issuer_chain: tcb.value.chain,
    tcb_info: tcb.value.text,
    tcb_info_signature: tcb.value.signature,
    qe_identity_issuer_chain: qe.value.chain,
    qe_identity: qe.value.text,
    qe_identity_signature: qe.value.signature,
  };
  await verifyCollateral(collateral, now, trust);
  for (const part of parts) await part.keep();
  return { collateral, provenance: parts.map(({ provenance }) => provenance) };
}

function readChain(url: string, answer: Answer, names: readonly string[]): string {
  const header = names.map((name) => answer.header(name)).find((value) => value !== undefined);
  if (header === undefined) throw wrongAnswer(url, `it has no header ${names[0]}`);
  const chain = chainOfHeader(header);
  if (chain === undefined)
    throw wrongAnswer(url, `its header ${names[0]} is not percent-encoded as it should be`);
  return chain;
}

/** The document's exact text, cut out by position: it is what is signed. */
function readSigned(url: string, answer: Answer, member: string, headers: readonly string[]): Part<Signed> {
  const parts = signedParts(fromUtf8(answer.bytes), member);
  if (parts?.signature.length !== 128) throw wrongAnswer(url, `it is not {"${member}":…,"signature":…}`);
  const { json, signature } = parts;
  let document: { issueDate?: unknown; nextUpdate?: unknown; tcbEvaluationDataNumber?: unknown };
  try {
    document = JSON.parse(json);
  } catch (error) {
    throw wrongAnswer(url, messageOf(error));
  }
  const [issued, expires] = [Date.parse(String(document.issueDate)), Date.parse(String(document.nextUpdate))];
  const number = document.tcbEvaluationDataNumber;
  if (Number.isNaN(issued) || Number.isNaN(expires) || typeof number !== "number") {
    throw wrongAnswer(url, "it has no dates or no evaluation number");
  }
  return {
    url,
    value: { text: json, signature: signature.toLowerCase(), chain: readChain(url, answer, headers) },
    dates: { issued, expires },
    number,
  };
}

/** A list of revocations in DER, PEM, hexadecimal or base64. */
function readList(url: string, answer: Answer, headers: readonly string[]): Part<List> {
  const der = listBytes(answer.bytes);
  if (der === undefined) throw wrongAnswer(url, "it is not a list of revocations");
  try {
    const { notBefore: issued, notAfter: expires } = parseCrl(der);
    const chain = headers.length === 0 ? undefined : readChain(url, answer, headers);
    return {
      url,
      value: { der: toHex(der), ...(chain !== undefined && { chain }) },
      dates: { issued, expires },
    };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    throw wrongAnswer(url, error.message);
  }
}
