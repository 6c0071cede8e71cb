// SPDX-License-Identifier: Apache-2.0
/** What the simulated platform signs: the guest's part of a body as it is, the platform's part as the platform has it. */
import { equal, notEqual } from "node:assert/strict";
import { test } from "node:test";
import { parseQuote } from "@caisson/verify";
import { simulatedPlatform } from "./simulated-platform.ts";

const now = Date.UTC(2026, 5, 1);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

test("a guest does not choose which platform vouches for it", async () => {
  // A TD 1.0 body: TEE_TCB_SVN at 0, MRSIGNERSEAM at 64, attributes at 120, MRTD at 136, report data at 520.
  const body = Buffer.alloc(584, 0x11);
  body.fill(0xff, 0, 16);
  body.fill(0xee, 64, 112);
  body.fill(0xaa, 136, 184);
  body.fill(0xbb, 520, 584);
  const quote = parseQuote(await simulatedPlatform(now).sign(body));
  if (quote.body.tee !== "tdx") throw new Error("not a TDX quote");
  const { teeTcbSvn, mrSignerSeam, mrTd, reportData } = quote.body.report;
  notEqual(hex(teeTcbSvn), "ff".repeat(16));
  equal(hex(mrSignerSeam), "00".repeat(48));
  equal(hex(mrTd), "aa".repeat(48));
  equal(hex(reportData), "bb".repeat(64));
});

test("its root is the same whenever it is asked, so that a policy can name it", () => {
  equal(simulatedPlatform(now).root, simulatedPlatform(now + 1000).root);
});
