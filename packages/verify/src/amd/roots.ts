// SPDX-License-Identifier: Apache-2.0
/** AMD's root keys (ARK), by product: whose signature a VCEK or VLEK must go back to. */
import type { Product } from "./products.ts";

/** A root that is trusted for one product. */
export interface AmdRoot {
  readonly name: string;
  readonly product: Product;
  /** SHA-256 of the root certificate's SubjectPublicKeyInfo, hexadecimal. */
  readonly keySha256: string;
}

/** Computed from the certificates that AMD's key distribution service serves (`/vcek/v1/{product}/cert_chain`). */
export const amdRoots: readonly AmdRoot[] = [
  {
    name: "AMD ARK-Milan",
    product: "Milan",
    keySha256: "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
  },
  {
    name: "AMD ARK-Genoa",
    product: "Genoa",
    keySha256: "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
  },
  {
    name: "AMD ARK-Turin",
    product: "Turin",
    keySha256: "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
  },
];
