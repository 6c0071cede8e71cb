// SPDX-License-Identifier: Apache-2.0
/**
 * `node --import` this file: the pinned root of Intel is the root of the test PKI, in that process alone. So the commands
 * run as they are documented, on TDX evidence that no Intel key signed.
 */
import { registerHooks } from "node:module";
import { hierarchy, mint } from "@caisson/simulated/pki";

/** The PKI whose root it is. Keys follow from the seed; dates are around now. */
export function testHierarchy() {
  const day = 24 * 3600 * 1000;
  const now = Date.now();
  return hierarchy("production test", { issued: new Date(now - day), expires: new Date(now + 30 * day) });
}

const { trust } = mint(testHierarchy());
const root = Buffer.from(trust.rootKey).toString("hex");

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!url.endsWith("/packages/verify/src/intel/roots.ts")) return loaded;
    const source = Buffer.from(loaded.source as Uint8Array).toString("utf8");
    const replaced = source.replace(/rootKey: fromHex\([\s\S]*?\)!/, `rootKey: fromHex("${root}")!`);
    if (replaced === source) throw new Error("the pinned root is not where it was");
    return { ...loaded, source: replaced };
  },
});
