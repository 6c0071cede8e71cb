// SPDX-License-Identifier: Apache-2.0
/** Arrays as PostgreSQL 15 gave them out (`array_send`); that it takes ours is in test/integration/kms-postgresql.test.ts. */
import { equal } from "node:assert/strict";
import test from "node:test";
import { arrayOf, parameters, unnest } from "./arrays.ts";

const bytes = (hex: string) => Uint8Array.fromHex(hex);

for (const [type, values, sent] of [
  [
    "bytea",
    [bytes(""), bytes("00ff"), bytes("0102030405")],
    "0000000100000000000000110000000300000001000000000000000200ff000000050102030405",
  ],
  [
    "bigint",
    [0, 1, -1, 2 ** 32, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
    "000000010000000000000014000000060000000100000008000000000000000000000008000000000000000100000008ffffffffffffffff" +
      "00000008000000010000000000000008001fffffffffffff00000008ffe0000000000001",
  ],
  [
    "integer",
    [0, 65_535, 2 ** 31 - 1, -(2 ** 31)],
    "00000001000000000000001700000004000000010000000400000000000000040000ffff000000047fffffff0000000480000000",
  ],
  [
    "text",
    ["", 'a,"\\}', "grün \u{1f512}"],
    "00000001000000000000001900000003000000010000000000000005612c225c7d0000000a6772c3bc6e20f09f9492",
  ],
] as const) {
  test(`an array of ${type} is what PostgreSQL makes of it`, () => {
    equal(arrayOf(type, values).toHex(), sent);
  });
}

test("rows are as many parameters as they have columns, in their order and with their types", () => {
  const columns = { place: "integer", children: "bytea" } as const;
  const rows = [{ children: bytes("aa"), place: 7 }];
  equal(unnest(columns, 3), "unnest($3::integer[], $4::bytea[])");
  equal(
    parameters(columns, rows)
      .map((array) => array.toHex())
      .join(" "),
    `${arrayOf("integer", [7]).toHex()} ${arrayOf("bytea", [bytes("aa")]).toHex()}`,
  );
});
