// SPDX-License-Identifier: Apache-2.0
/** The published cases are answered as they say; a case that says otherwise, or is none, is noticed. */
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { readCase, runConformance } from "./conformance.ts";
import { UsageError } from "./failure.ts";

const place = new URL("../../../test/conformance/cases/", import.meta.url).pathname;

test("every published case is answered as it says, and each answer occurs", async () => {
  const results = await runConformance(place);
  deepEqual(
    results.filter(({ passed }) => !passed),
    [],
  );
  equal(results.length, readdirSync(place).length);
  for (const verdict of ["accepted", "rejected", "undetermined"]) {
    ok(
      results.some(({ found }) => found.startsWith(verdict)),
      verdict,
    );
  }
});

test("a wrong answer, another form of evidence, and what is not a case", async (t) => {
  const work = temporaryDirectory("conformance", t);
  await rejects(runConformance(work), UsageError);
  const good = JSON.parse(
    readFileSync(join(place, "quote-a-tdx-quote-in-good-order.json"), "utf8"),
  ) as Record<string, unknown>;
  const write = (name: string, change: object) =>
    writeFileSync(join(work, name), JSON.stringify({ ...good, ...change }));
  write("a.json", { expect: { verdict: "rejected" } });
  write("b.json", { roots: undefined, expect: { verdict: "rejected", codes: ["chain/untrusted-root"] } });
  write("c.json", { evidence: Buffer.from("hello").toString("base64"), expect: { verdict: "unsupported" } });
  write("d.json", {
    evidence: Buffer.from('{"quote":"zz"}').toString("base64"),
    expect: { verdict: "malformed" },
  });
  write("e.json", {
    policy: { version: "caisson/policy/v1", unknown: 1 },
    expect: { verdict: "malformed", codes: ["policy/malformed"] },
  });
  deepEqual(
    (await runConformance(work)).map(({ passed }) => passed),
    [false, true, true, true, true],
  );
  throws(() => readCase('{"version":"caisson/conformance/v2"}', "x"), { code: "evidence/malformed" });
  throws(() => readCase("{", "x"), { code: "evidence/malformed" });
});
