// SPDX-License-Identifier: Apache-2.0
import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { single } from "./exchange.ts";

const request = (...rawHeaders: string[]) => ({ rawHeaders }) as Parameters<typeof single>[0];

test("a field that decides is there at most once, however it is spelt", () => {
  equal(single(request("Content-Length", "1", "X", "2"), "content-length"), "1");
  equal(single(request("X", "2"), "content-length"), undefined);
  for (const second of ["1", "2"]) {
    throws(() => single(request("Content-Length", "1", "content-length", second), "content-length"), {
      status: 400,
    });
  }
});
