// SPDX-License-Identifier: Apache-2.0
/**
 * AMD's generations of processors: how each is recognised, which root signs for it, and how it writes a TCB version (AMD
 * 56860, SEV-SNP firmware ABI, TCB_VERSION; the layout changed with Turin).
 */
import { toHex } from "@caisson/vocabulary/bytes";

export const products = ["Milan", "Genoa", "Turin"] as const;
/** Bergamo and Siena are Genoa's. */
export type Product = (typeof products)[number];

/** Family, model and stepping as CPUID combines them (extended and base added). */
export interface CpuId {
  family: number;
  model: number;
  stepping: number;
}

/** The product of a processor; undefined for one that is not known here. */
export function productOf({ family, model }: CpuId): Product | undefined {
  if (family === 0x19) {
    if (model <= 0x0f) return "Milan";
    return (model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf) ? "Genoa" : undefined;
  }
  return family === 0x1a && model <= 0x11 ? "Turin" : undefined;
}

/** Security patch levels of one TCB version. `fmc` exists from Turin on. */
export interface Tcb {
  readonly fmc?: number;
  readonly bootLoader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
}

export type TcbComponent = keyof Tcb;
export const tcbComponents = [
  "fmc",
  "bootLoader",
  "tee",
  "snp",
  "microcode",
] as const satisfies TcbComponent[];

/** Where each component lies in the 8 bytes; the others must be zero. */
const layouts: Readonly<Record<Product, Partial<Record<TcbComponent, number>>>> = (() => {
  const milan = { bootLoader: 0, tee: 1, snp: 6, microcode: 7 };
  return { Milan: milan, Genoa: milan, Turin: { fmc: 0, bootLoader: 1, tee: 2, snp: 3, microcode: 7 } };
})();

/** Components that a product has. */
export const componentsOf = (product: Product): TcbComponent[] =>
  tcbComponents.filter((name) => layouts[product][name] !== undefined);

/** A TCB version (8 bytes) of a product; undefined where a reserved byte is not zero. */
export function readTcb(bytes: Uint8Array, product: Product): Tcb | undefined {
  const layout = layouts[product];
  const places = Object.values(layout);
  if (bytes.some((byte, i) => byte !== 0 && !places.includes(i))) return undefined;
  const entries = componentsOf(product).map((name) => [name, bytes[layout[name]!]!]);
  return Object.fromEntries(entries) as unknown as Tcb;
}

/** Components of `tcb` that are below those of `least`; what `least` does not name is not asked. */
export const behind = (tcb: Tcb, least: Partial<Tcb>): TcbComponent[] =>
  tcbComponents.filter((name) => (tcb[name] ?? 0) < (least[name] ?? 0));

/** In words: "boot loader 4, TEE 0, SNP 24, microcode 219". */
export const tcbText = (tcb: Partial<Tcb>): string =>
  tcbComponents
    .flatMap((name) => (tcb[name] === undefined ? [] : [`${componentNames[name]} ${tcb[name]}`]))
    .join(", ");

export const componentNames: Readonly<Record<TcbComponent, string>> = {
  fmc: "FMC",
  bootLoader: "boot loader",
  tee: "TEE",
  snp: "SNP",
  microcode: "microcode",
};

/** Bytes of a chip id that are not zero on a product: what its certificate names, and AMD's service asks for. */
const chipIdSize = (product: Product): number => (product === "Turin" ? 8 : 64);

/** A chip id (64 bytes) as people write it: without the zeros that Turin fills it with. */
export const chipIdText = (chipId: Uint8Array, product: Product): string =>
  toHex(chipId.subarray(0, chipIdSize(product)));
