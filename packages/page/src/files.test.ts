// SPDX-License-Identifier: Apache-2.0
/** Files are what they contain; registers are what their events make them. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { VerifyError } from "@caisson/verify";
import fc from "fast-check";
import { buildPage } from "./build.ts";
import { type Example, examples } from "./examples.ts";
import { bytesOfExample, type Dropped, readDropped } from "./files.ts";
import { registersOf } from "./registers.ts";

const shown = await examples();
const bytesOf = (example: Example, name: string) =>
  bytesOfExample(example.files.find((file) => file.name === name)!);
const [tdx, forged, snp] = shown as [Example, Example, Example, Example];
const read = <K extends Dropped["kind"]>(example: Example, name: string) =>
  readDropped(bytesOf(example, name), name) as Extract<Dropped, { kind: K }>;

test("each kind of file is recognised", () => {
  for (const [example, name, kind] of [
    [tdx, "evidence.json", "evidence"],
    [tdx, "policy.json", "policy"],
    [tdx, "prediction.json", "references"],
    [snp, "report.bin", "evidence"],
    [snp, "amd.json", "collateral"],
  ] as const) {
    equal(read(example, name).kind, kind, name);
  }
  const yaml = new TextEncoder().encode("# a comment\nversion: caisson/policy/v1\nsnp: {}\n");
  equal(readDropped(yaml, "policy").kind, "policy");
});

test("what is none of them is refused by name, and anything at all is read or refused", () => {
  throws(() => readDropped(new TextEncoder().encode("hello"), "a.txt"), /a\.txt is neither/);
  throws(() => readDropped(new Uint8Array(5 << 20), "big"), /larger than/);
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.json().map((text) => new TextEncoder().encode(text)),
      ),
      (bytes) => {
        try {
          readDropped(bytes, "x");
        } catch (error) {
          ok(error instanceof TypeError || error instanceof VerifyError, String(error));
        }
      },
    ),
  );
});

test("registers: each event, whether they replay, and the file behind them", async () => {
  const { predicted } = read<"references">(tdx, "prediction.json");
  const views = (await registersOf(read<"evidence">(tdx, "evidence.json").evidence, predicted))!;
  deepEqual(
    views.map(({ name, replays, events }) => [name, replays, events.length]),
    [
      ["MRTD", undefined, 0],
      ["RTMR0", true, 1],
      ["RTMR1", true, 2],
      ["RTMR2", true, 1],
      ["RTMR3", true, 6],
    ],
  );
  deepEqual([views[2]!.events[0]!.name, views[2]!.events[0]!.file], ["kernel", "bzImage"]);
  const wrong = (await registersOf(read<"evidence">(forged, "evidence.json").evidence, []))!;
  deepEqual(
    wrong.map(({ replays }) => replays),
    [undefined, true, false, true, true],
  );
  equal(await registersOf(read<"evidence">(snp, "report.bin").evidence, []), undefined);
});

test("one file, within its size, that allows itself nothing but its own code and style", async () => {
  const page = await buildPage();
  const size = gzipSync(page, { level: 9 }).length;
  ok(size <= 120_000, `${size} bytes`);
  const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page)![1]!;
  match(
    policy,
    /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'$/,
  );
  const code = /<script type="module">([\s\S]*)<\/script>/.exec(page)![1]!;
  ok(policy.includes(`'sha256-${createHash("sha256").update(code).digest("base64")}'`));
  equal(/<(?:link|img|iframe|script src)/i.test(page.replace(code, "")), false);
});
