// SPDX-License-Identifier: Apache-2.0
/** What a VCEK or VLEK says: for which product, which security patch levels, and which chip or provider. */
import { fromUtf8, isZero } from "@caisson/vocabulary/bytes";
import { VerifyError } from "../errors.ts";
import { DerReader, tag } from "../pki/der.ts";
import type { Certificate } from "../pki/x509.ts";
import { amdOids } from "./oids.ts";
import { componentsOf, type Product, products, type Tcb, type TcbComponent } from "./products.ts";

/** The certificate's extensions. A VCEK has `hardwareId` (64 bytes), a VLEK `provider`; never both. */
export interface Endorsement {
  readonly product: Product;
  /** As the certificate says it, with a stepping on some: "Milan-B0". */
  readonly productName: string;
  readonly tcb: Tcb;
  readonly hardwareId: Uint8Array | undefined;
  readonly provider: string | undefined;
}

/** Last arc of each component's identifier under `amdSpl`. */
const splArcs: Readonly<Record<TcbComponent, number>> = {
  bootLoader: 1,
  tee: 2,
  snp: 3,
  microcode: 8,
  fmc: 9,
};
/** Those that a certificate of any product may have beside them; they must be zero. */
const reservedArcs = [4, 5, 6, 7];

function malformed(what: string, actual?: string): never {
  throw new VerifyError("snp/extension", `the certificate of the signing key is not as AMD's are: ${what}`, {
    ...(actual !== undefined && { actual }),
  });
}

/** Reads the extensions. Throws VerifyError "snp/extension" or "der/malformed". */
export function readEndorsement({ extensions: own }: Certificate): Endorsement {
  const take = (oid: string): DerReader => {
    const value = own.get(oid);
    return value === undefined ? malformed(`the extension ${oid} is missing`) : new DerReader(value);
  };
  const only = <T>(reader: DerReader, read: (reader: DerReader) => T): T => {
    const value = read(reader);
    reader.end();
    return value;
  };
  const level = (arc: number) => only(take(`${amdOids.spl}.${arc}`), (reader) => reader.number(255));

  const productName = text(only(take(amdOids.productName), (reader) => reader.content(tag.ia5String)));
  const product = products.find((name) => productName === name || productName.startsWith(`${name}-`));
  if (product === undefined) malformed("a product that is not known here", productName);
  const components = componentsOf(product);
  const tcb = Object.fromEntries(components.map((name) => [name, level(splArcs[name])])) as unknown as Tcb;
  for (const arc of [...reservedArcs, ...(components.includes("fmc") ? [] : [splArcs.fmc])]) {
    if (own.has(`${amdOids.spl}.${arc}`) && level(arc) !== 0) malformed("a reserved patch level is not zero");
  }
  const hardwareId = own.get(amdOids.hardwareId);
  const provider = own.get(amdOids.provider);
  if ((hardwareId === undefined) === (provider === undefined)) {
    malformed("it names a chip and a provider, or neither");
  }
  return {
    product,
    productName,
    tcb,
    hardwareId: hardwareId && readHardwareId(hardwareId, product),
    provider: provider && text(only(new DerReader(provider), (reader) => reader.content(tag.ia5String))),
  };
}

/** Raw bytes, or in newer certificates an OCTET STRING of them; on Turin also the eight that count alone. */
function readHardwareId(value: Uint8Array, product: Product): Uint8Array {
  const sizes = product === "Turin" ? [64, 8] : [64];
  const wrapped =
    value[0] === tag.octetString && sizes.includes(value.length - 2) && value[1] === value.length - 2;
  const bytes = wrapped ? value.subarray(2) : value;
  if (!sizes.includes(bytes.length)) malformed("a hardware id of another size", `${bytes.length} bytes`);
  if (product === "Turin" && !isZero(bytes.subarray(8)))
    malformed("more than 8 bytes of a Turin's hardware id");
  const whole = new Uint8Array(64);
  whole.set(bytes);
  return whole;
}

const text = (bytes: Uint8Array): string => {
  const value = fromUtf8(bytes);
  return /^[\x20-\x7e]{1,256}$/.test(value) ? value : malformed("a text that is not plain ASCII");
};
