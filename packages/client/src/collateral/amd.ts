// SPDX-License-Identifier: Apache-2.0
/**
 * Certificates and revocations from AMD's key distribution service (KDS), or from a mirror of its paths. It answers about one
 * VCEK in ten seconds for one address, so that what never changes is kept for good.
 */
import { type AmdCollateral, type AmdRoot, amdRoots, type SnpEvidence, VerifyError } from "@caisson/verify";
import { parseAmdCrl, parseEndorsement } from "@caisson/verify/amd-certificates";
import { type AmdCollateralDocument, verifyAmdCollateral } from "@caisson/verify/amd-collateral";
import { readEndorsement } from "@caisson/verify/amd-endorsement";
import {
  chipIdText,
  type Product,
  productOf,
  readTcb,
  type Tcb,
  tcbComponents,
} from "@caisson/verify/amd-products";
import { parseReport } from "@caisson/verify/amd-report";
import { toPem } from "@caisson/verify/der-writer";
import { listBytes } from "@caisson/verify/pcs-answers";
import { fromHex, fromUtf8, toHex } from "@caisson/vocabulary/bytes";
import { type Answer, ask, type World, wrongAnswer } from "./ask.ts";
import { CollateralError, unverified } from "./errors.ts";
import { type Fetched, sourceBase } from "./intel.ts";
import { type Found, find, type Keeping, type Part } from "./kept.ts";

const KDS = "https://kdsintf.amd.com";

export interface AmdOptions extends World, Keeping {
  /** "kds" or "pcs" (default: the vendor), or the base of a mirror. */
  from?: string;
  roots?: readonly AmdRoot[];
}

/** What a report says of the key that signed it. */
export interface AmdPlatform {
  kind: "vcek" | "vlek";
  /** One, or those that a report of version 2 may be of. */
  products: Product[];
  chipId: Uint8Array;
  reportedTcb: Uint8Array;
  /** A certificate that came with the evidence. */
  brought: Uint8Array | undefined;
}

/** Throws CollateralError "collateral/platform" where nobody can have collateral, VerifyError "snp/…" for no report. */
export function amdPlatformOf({ report: bytes, collateral }: SnpEvidence): AmdPlatform {
  const { signingKey, cpu, chipId, tcb } = parseReport(bytes);
  const brought = collateral?.endorsement;
  const cannot = (message: string, fix: string): never => {
    throw new CollateralError("collateral/platform", "unsupported", message, { fix });
  };
  if (signingKey === "none")
    return cannot("this report is not signed", "its host must unmask the chip's key");
  if (signingKey === "vcek" && brought === undefined && chipId.every((byte) => byte === 0)) {
    return cannot(
      "the host masks the chip's id: AMD cannot be asked for its certificate",
      "unmask it on the host",
    );
  }
  if (signingKey === "vlek" && brought === undefined) {
    return cannot(
      "only the provider can ask AMD for a VLEK",
      "take it from the guest: its auxblob carries the table of certificates",
    );
  }
  const product = cpu === undefined ? certified(brought) : productOf(cpu);
  if (cpu !== undefined && product === undefined)
    return cannot("a processor that is not known here", "update Caisson");
  return {
    kind: signingKey,
    products: product === undefined ? ["Milan", "Genoa"] : [product],
    chipId,
    reportedTcb: tcb.reported,
    brought,
  };
}

function certified(endorsement: Uint8Array | undefined): Product | undefined {
  return endorsement && readEndorsement(parseEndorsement(endorsement)).product;
}

/** Fetches and verifies what AMD vouches with for one report's key. Throws CollateralError. */
export async function fetchAmd(
  platform: AmdPlatform,
  options: AmdOptions,
): Promise<Fetched<AmdCollateral> & { document: AmdCollateralDocument }> {
  const { from = "kds" } = options;
  const base = from === "kds" || from === "pcs" ? KDS : sourceBase(from);
  let unknown: unknown;
  for (const product of platform.products) {
    try {
      return await fetchFor(product, platform, base, options);
    } catch (error) {
      // A report of version 2 does not say its product: the next one may know the chip.
      if (!(error instanceof CollateralError) || error.code !== "collateral/not-served") throw error;
      unknown = error;
    }
  }
  throw unknown;
}

async function fetchFor(product: Product, platform: AmdPlatform, base: string, options: AmdOptions) {
  const { kind, brought } = platform;
  const part = <T>(
    key: string,
    url: string,
    read: (url: string, answer: Answer) => Part<T>,
  ): Promise<Found<T>> => find(key, url, async () => read(url, await ask(url, options)), options);
  const own = `${base}/${kind}/v1/${product}`;
  const lower = product.toLowerCase();
  const endorsement =
    brought === undefined
      ? await part(...vcekRequest(product, platform, own), (url, { bytes }) => ({ url, value: toHex(bytes) }))
      : undefined;
  const chain = await part(`chain/${kind}/${lower}`, `${own}/cert_chain`, readChain);
  const crl = await part(`amd-crl/${kind}/${lower}`, `${own}/crl`, readList);

  const certificate = brought ?? fromHex(endorsement!.value)!;
  const document: AmdCollateralDocument = {
    version: "caisson/amd-collateral/v1",
    endorsement: toPem(certificate),
    chain: chain.value,
    crl: crl.value,
  };
  const { now, roots = amdRoots } = options;
  let collateral: AmdCollateral;
  try {
    collateral = await verifyAmdCollateral(document, now, roots);
  } catch (error) {
    throw unverified(error, base);
  }
  const parts = [...(endorsement === undefined ? [] : [endorsement]), chain, crl];
  for (const one of parts) await one.keep();
  return { collateral, document, provenance: parts.map(({ provenance }) => provenance) };
}

const names: Readonly<Record<keyof Tcb, string>> = {
  fmc: "fmcSPL",
  bootLoader: "blSPL",
  tee: "teeSPL",
  snp: "snpSPL",
  microcode: "ucodeSPL",
};

/** The VCEK's key in the store, and its address: levels in decimal, two digits at least. */
function vcekRequest(
  product: Product,
  { chipId, reportedTcb }: AmdPlatform,
  own: string,
): [key: string, url: string] {
  const tcb = readTcb(reportedTcb, product);
  if (tcb === undefined) {
    throw new CollateralError(
      "collateral/platform",
      "unsupported",
      `the reported TCB is not one of ${product}`,
      {
        facts: [["found", toHex(reportedTcb)]],
      },
    );
  }
  const chip = chipIdText(chipId, product);
  const query = tcbComponents
    .flatMap((name) => (tcb[name] === undefined ? [] : [`${names[name]}=${`${tcb[name]}`.padStart(2, "0")}`]))
    .join("&");
  return [`vcek/${product.toLowerCase()}/${chip}/${toHex(reportedTcb)}`, `${own}/${chip}?${query}`];
}

function readChain(url: string, { bytes }: Answer): Part<string> {
  const text = fromUtf8(bytes);
  if (!text.startsWith("-----BEGIN CERTIFICATE-----")) throw wrongAnswer(url, "it is not a chain in PEM");
  return { url, value: text };
}

function readList(url: string, { bytes }: Answer): Part<string> {
  const der = listBytes(bytes);
  if (der === undefined) throw wrongAnswer(url, "it is not a list of revocations");
  try {
    const { notBefore: issued, notAfter: expires } = parseAmdCrl(der);
    return { url, value: toHex(der), dates: { issued, expires } };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    throw wrongAnswer(url, error.message);
  }
}
