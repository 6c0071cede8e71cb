// SPDX-License-Identifier: Apache-2.0
import { equal, rejects, throws } from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { UsageError } from "./failure.ts";
import { launchDigest, parseFeatures } from "./launch-digest.ts";

test("options that do not go together are refused with what to do", async (t) => {
  const place = temporaryDirectory("launch", t);
  const firmware = join(place, "firmware");
  writeFileSync(firmware, new Uint8Array(4096));
  const base = { vmm: "qemu", cpu: "EPYC-v4", sevFeatures: 1n, vcpus: 1, firmware } as const;
  await rejects(launchDigest("image", { ...base }), UsageError);
  await rejects(launchDigest(undefined, { ...base, uki: firmware }), UsageError);
  await rejects(launchDigest(undefined, { ...base, cpu: "Opteron" }), UsageError);
  await rejects(launchDigest(undefined, { ...base, kernel: firmware }), UsageError);
  await rejects(launchDigest(undefined, base), { code: "firmware/no-metadata" });
});

test("features are hexadecimal, with or without 0x", () => {
  equal(parseFeatures("0x21"), 0x21n);
  equal(parseFeatures("201"), 0x201n);
  throws(() => parseFeatures("g"));
});
