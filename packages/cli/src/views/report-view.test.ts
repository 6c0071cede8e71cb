// SPDX-License-Identifier: Apache-2.0
import { doesNotMatch, match } from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { type Check, notReached, type Report } from "@caisson/verify";
import { renderReport } from "./report-view.ts";

const check = (id: Check["id"], outcome: Check["outcome"], more: Partial<Check> = {}): Check => ({
  id,
  outcome,
  source: "the policy",
  ...more,
});
const report = (platform: string, ...checks: Check[]): Report => ({
  version: "caisson/report/v1",
  verdict: "accepted",
  scope: "genuine-and-acceptable",
  at: "2026-11-26T00:00:00.000Z",
  codes: [],
  platform: {
    tee: "tdx",
    root: "a root",
    quoteVersion: 5,
    tcbStatus: "UpToDate",
    advisories: [],
    tcbDate: "2026-11-01T00:00:00.000Z",
    tcbEvaluationDataNumber: 18,
    fmspc: "00",
    ppid: "00",
    validUntil: "2026-12-01T00:00:00.000Z",
  },
  checks: [check("policy/platform", "pass", { actual: platform }), ...checks],
});
const render = (value: Report) => stripVTControlCharacters(renderReport(value));

test("emulated evidence says so first, and is called no platform of hardware", () => {
  const text = render(report("emulated"));
  match(text, /^EMULATED +this evidence proves nothing about hardware\nACCEPTED /);
  doesNotMatch(text, /platform TDX/);
  match(render(report("tdx")), /^ACCEPTED [\s\S]*platform TDX, UpToDate/);
});

test("a register that differs names what can be the cause, where the value came from, and the command that tells", () => {
  const failed = check("registers/rtmr0", "fail", {
    code: "registers/rtmr0",
    expected: "aa",
    actual: "bb",
    source: "m.json",
  });
  const text = render({ ...report("tdx", failed), verdict: "rejected" });
  match(
    text,
    /^ +source +m\.json\n +may be +memory, vCPUs, devices.*QEMU.*\n +tells +caisson measure IMAGE .*--log/m,
  );
  doesNotMatch(render(report("tdx", check("registers/rtmr0", "pass"))), /may be/);
});

test("what the policy left open and what was not reached are two things", () => {
  const open = check("td/mr-seam", "not-checked", { reason: "the policy leaves it open" });
  const missed = check("app/id", "not-checked", { reason: notReached });
  const text = render(report("tdx", open, missed));
  match(text, /3 checks, 1 left open by the policy, 1 not reached\n/);
  match(text, /^ {2}open {2}td\/mr-seam/m);
  match(text, /^ {2}---- {2}app\/id/m);
  doesNotMatch(render(report("tdx", open)), /not reached/);
});
