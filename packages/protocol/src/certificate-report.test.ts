// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type CertificateReport, decodeReport, encodeReport } from "./certificate-report.ts";

const reports: CertificateReport[] = [
  {
    state: "issued",
    authority: "ca.example",
    account: "https://ca.example/acct/7",
    notAfter: "2027-02-01T00:00:00.000Z",
    renewal: "2027-01-01T00:00:00.000Z",
  },
  { state: "failed", reason: "acme/refused", message: "no\nsuch name", again: 60 },
];

test("a report is one line, and comes back as it was", () => {
  for (const report of reports) {
    const line = encodeReport(report);
    equal(line.includes("\n"), false);
    deepEqual(decodeReport(line), report);
  }
});

test("what is not a report is none: cut off, with members of its own, of another kind, any text", () => {
  const line = encodeReport(reports[0]!);
  for (let end = 0; end < line.length; end++) equal(decodeReport(line.slice(0, end)), undefined);
  for (const other of [
    { ...reports[0], names: [] },
    { ...reports[0], renewal: "soon" },
    { ...reports[1], reason: "volume/damaged" },
    { ...reports[1], again: -1 },
    { ...reports[1], message: "x".repeat(2000) },
  ]) {
    equal(decodeReport(`certificate ${JSON.stringify(other)}`), undefined);
  }
  fc.assert(fc.property(fc.string(), (text) => decodeReport(text) === undefined));
});
