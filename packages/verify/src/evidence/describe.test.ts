// SPDX-License-Identifier: Apache-2.0
/** A quote looked into: each field at its place, bits by name, and what takes away all protection first. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { hierarchy, mint } from "@caisson/simulated/pki";
import { issueQuote } from "@caisson/simulated/quotes";
import fc from "fast-check";
import { VerifyError } from "../errors.ts";
import { describeQuote } from "./describe.ts";

const times = { issued: new Date("2026-01-01T00:00:00Z"), expires: new Date("2027-01-01T00:00:00Z") };
const h = hierarchy("describe", times);
const { pckChain } = mint(h);
const td = (fields: object = {}, format: "td10-v4" | "td15-v5" = "td15-v5") =>
  describeQuote(issueQuote(h, pckChain, fields, format));

test("registers, identities and report data of a TD are shown whole", () => {
  const fields = {
    mrTd: "a1".repeat(48),
    rtmr3: "a2".repeat(48),
    reportData: "a3".repeat(64),
    mrServiceTd: "a4".repeat(48),
  };
  const { TD, quote, platform, certificates } = td(fields).groups;
  deepEqual(
    [TD?.MRTD, TD?.RTMR3, TD?.["report data"], TD?.MRSERVICETD],
    [fields.mrTd, fields.rtmr3, fields.reportData, fields.mrServiceTd],
  );
  deepEqual([quote?.version, quote?.TEE], ["5", "TDX"]);
  equal(platform?.FMSPC?.length, 12);
  deepEqual(Object.keys(certificates ?? {}), ["1", "2", "3"]);
  ok(certificates?.["3"]?.startsWith("Intel SGX Root CA"));
});

test("a TD 1.0 report says what it does not carry", () => {
  equal(td({}, "td10-v4").groups.TD?.MRSERVICETD, "not in a TD 1.0 report");
});

test("bits go by their names, unknown ones by their number", () => {
  const { TD } = td({ tdAttributes: "0000001000000080", xfam: "0700000000000040" }).groups;
  equal(TD?.attributes, "0000001000000080 (SEPT_VE_DISABLE, PERFMON)");
  equal(TD?.XFAM, "0700000000000040 (x87, SSE, AVX, bit 62)");
});

test("a debug TD and a debug enclave say so; others do not", () => {
  deepEqual(td().warnings, []);
  ok(td({ tdAttributes: "0100001000000000" }).warnings[0]?.includes("DEBUG TD"));
  const sgx = hierarchy("describe", times, "sgx");
  const quote = issueQuote(sgx, mint(sgx).pckChain, {}, "sgx-v3");
  deepEqual(describeQuote(quote).warnings, []);
  // The body's ATTRIBUTES begin 48 bytes into the enclave report, which follows the header.
  quote[48 + 48]! |= 2;
  ok(describeQuote(quote).warnings[0]?.includes("DEBUG enclave"));
});

test("a chain that cannot be read leaves the rest to be looked at", () => {
  const { groups } = describeQuote(issueQuote(h, "no certificates", {}, "td10-v4"));
  ok(groups.certificates?.chain?.includes("pem/malformed"));
  ok(groups.TD);
});

test("what is not a quote is refused, whatever it is", () => {
  throws(() => describeQuote(new Uint8Array(700)), { code: "quote/version" });
  const quote = issueQuote(h, pckChain, {}, "td10-v4");
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(quote.length - 1), fc.nat(255)), { maxLength: 6 }), (changes) => {
      const copy = quote.slice();
      for (const [at, value] of changes) copy[at] = value;
      try {
        describeQuote(copy);
      } catch (error) {
        ok(error instanceof VerifyError);
      }
    }),
  );
});
