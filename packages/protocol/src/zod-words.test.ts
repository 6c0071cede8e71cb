// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import * as z from "zod";
import { mistakesInWords } from "./zod-words.ts";

const schema = z.strictObject({
  version: z.literal("caisson/x/v1"),
  names: z.array(z.string()).max(2),
  limits: z.strictObject({ bytes: z.int().min(10) }),
  on: z.boolean(),
});
const said = (document: unknown): string =>
  mistakesInWords(schema.safeParse(document).error!.issues, document, "the file");

test("every mistake has its place and what should stand there", () => {
  equal(
    said({ version: "v2", names: ["a", 2], limits: { bytes: 3, byts: 4 }, colour: 1 }),
    'version: it has to be caisson/x/v1; names.1: it has to be a text: in quotes it is one, "2"; limits.bytes: at least 10; ' +
      "limits: there is no key 'byts'; on: it is missing; the file: there is no key 'colour'",
  );
  equal(
    said({ version: "caisson/x/v1", names: ["a", "b", "c"], limits: 5, on: "yes" }),
    "names: at most 2 entries; limits: it has to be a map of keys and values; on: it has to be true or false",
  );
  equal(said("text"), "the file: it has to be a map of keys and values");
});
