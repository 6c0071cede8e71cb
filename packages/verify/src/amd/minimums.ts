// SPDX-License-Identifier: Apache-2.0
/**
 * Least patch levels by product and date, in place of the TCB info that AMD does not publish. Each row says where it comes
 * from; a product without a row has no minimum here, and a policy must then state its own.
 */
import type { Product, Tcb } from "./products.ts";

export interface Minimum {
  /** In force from then on, ISO 8601 date. */
  readonly since: string;
  readonly product: Product;
  readonly tcb: Partial<Tcb>;
  readonly source: string;
}

/** Newest first. */
const minimums: readonly Minimum[] = [
  {
    since: "2026-03-01",
    product: "Milan",
    tcb: { bootLoader: 4, tee: 0, snp: 0x18, microcode: 0xdb },
    source: "the minimum that Microsoft's CCF documents since 2026-03 for CPUID 00a00f11 (db18000000000004)",
  },
];

/** The row that holds for a product on a day (ISO 8601 date); undefined where none does. */
export const minimumAt = (product: Product, day: string): Minimum | undefined =>
  minimums.find((row) => row.product === product && row.since <= day);
