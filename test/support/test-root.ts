// SPDX-License-Identifier: Apache-2.0
/**
 * `node --import` this file: the pinned root of Intel is the root of the test PKI, in that process alone. So the commands
 * run as they are documented, on TDX evidence that no Intel key signed.
 */
import { hierarchy, mint } from "@caisson/simulated/pki";
import { patchModule } from "./patched-module.ts";

/** The PKI whose root it is. Keys follow from the seed; dates are around now. */
export function testHierarchy() {
  const day = 24 * 3600 * 1000;
  const now = Date.now();
  return hierarchy("production test", { issued: new Date(now - day), expires: new Date(now + 30 * day) });
}

const { trust } = mint(testHierarchy());
const root = Buffer.from(trust.rootKey).toString("hex");

patchModule("/packages/verify/src/intel/roots.ts", (source) =>
  source.replace(/rootKey: fromHex\([\s\S]*?\)!/, `rootKey: fromHex("${root}")!`),
);
