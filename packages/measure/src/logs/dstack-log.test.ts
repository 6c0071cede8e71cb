// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, rejects } from "node:assert/strict";
import test from "node:test";
import { toHex } from "@caisson/vocabulary/bytes";
import fc from "fast-check";
import { MeasureError } from "../errors.ts";
import { noise } from "../testing/synthetic.ts";
import { parseDstackLog } from "./dstack-log.ts";
import { runtimeEventDigest, runtimeEventDigestV2 } from "./runtime-events.ts";

const runtime = { imr: 3, event_type: 0x08000001, digest: "", event: "app-id", event_payload: "00ff" };
const bootEvent = { imr: 0, event_type: 10, digest: toHex(noise(48)), event: "acpi-rsdp", event_payload: "" };
const parse = (...rows: unknown[]) => parseDstackLog(JSON.stringify(rows));

test("boot digests are taken, runtime digests recomputed in both versions", async () => {
  const [boot, v1, v2] = await parse(bootEvent, runtime, { ...runtime, version: 2 });
  deepEqual(boot!.digest, noise(48));
  equal(boot!.register, "rtmr0");
  deepEqual(v1!.digest, await runtimeEventDigest("app-id", Uint8Array.of(0, 255)));
  deepEqual(v2!.digest, await runtimeEventDigestV2("app-id", Uint8Array.of(0, 255)));
});

for (const [name, row, code] of [
  ["a logged runtime digest that is not its own", { ...runtime, digest: toHex(noise(48)) }, "log/malformed"],
  ["a boot event without digest", { ...bootEvent, digest: "" }, "log/malformed"],
  ["a payload that is not hexadecimal", { ...runtime, event_payload: "0g" }, "log/malformed"],
  ["register 4", { ...runtime, imr: 4 }, "log/register"],
  ["register -1, which would be MRTD", { ...runtime, imr: -1 }, "log/register"],
  ["an unknown version", { ...runtime, version: 3 }, "log/malformed"],
  [
    "a name that could be a name and the start of a payload",
    { ...runtime, event: "app:id" },
    "log/malformed",
  ],
  ["null", null, "log/malformed"],
] as const) {
  test(`refused: ${name}`, async () => {
    await rejects(parse(row), { name: "MeasureError", code });
  });
}

test("any text is parsed or refused", async () => {
  const field = fc.oneof(fc.constantFrom("", "00", "zz", null, 0, 3, 5, -1, 1.5, 0x08000001), fc.jsonValue());
  const row = fc.record({ imr: field, event_type: field, digest: field, event: field, event_payload: field });
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.array(row).map((rows) => JSON.stringify(rows)),
  );
  await fc.assert(
    fc.asyncProperty(text, async (value) => {
      await parseDstackLog(value).catch((error: unknown) => {
        if (!(error instanceof MeasureError)) throw error;
      });
    }),
  );
});
