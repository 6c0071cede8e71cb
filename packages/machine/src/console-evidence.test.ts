// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { joinParts } from "./console-evidence.ts";

const document = Buffer.from('{"version":"caisson/evidence/v1"}');
const text = document.toString("base64");
const part = (index: number, of: number, data: string): ConsoleEvent => ({
  at: 1,
  kind: "evidence",
  part: index,
  of,
  data,
});

test("parts in order make the document, whatever is said between them", () => {
  const note: ConsoleEvent = { at: 1, kind: "note", text: "x" };
  const events = [note, part(0, 2, text.slice(0, 7)), note, part(1, 2, text.slice(7))];
  deepEqual(joinParts(events), document);
});

test("while a part is missing there is no document", () => {
  equal(joinParts([]), undefined);
  equal(joinParts([part(0, 2, text)]), undefined);
});

test("parts out of order, without data, or of more than a document are refused", () => {
  const malformed = { code: "evidence/malformed" };
  throws(() => joinParts([part(1, 2, text)]), malformed);
  throws(() => joinParts([part(0, 2, text), part(0, 2, text)]), malformed);
  throws(() => joinParts([{ ...part(0, 1, ""), data: undefined } as unknown as ConsoleEvent]), malformed);
  const large = "A".repeat(8 << 20);
  throws(() => joinParts([part(0, 3, large), part(1, 3, "A"), part(2, 3, "A")]), malformed);
});
