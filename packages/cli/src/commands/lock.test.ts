// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { kernelLines } from "./lock.ts";

test("which command compiles a kernel, and which has one", () => {
  equal(
    kernelLines(["production"]),
    `  caisson up     has its kernel (development)
  caisson build  compiles a kernel first: six to ten minutes on two cores (production)
--like SPEC pins the packages of an image whose kernel is there
`,
  );
  equal(kernelLines(["production", "development"]).match(/compiles a kernel first/g)?.length, 2);
});
