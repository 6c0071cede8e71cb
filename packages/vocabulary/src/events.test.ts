// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { bootEvents, eventName } from "./events.ts";

test("the boot events are these, in this order: every verifier and every key depends on it", () => {
  deepEqual(bootEvents, [
    "system-preparing",
    "app-id",
    "compose-hash",
    "instance-id",
    "secure-time",
    "boot-mr-done",
    "key-provider",
    "system-ready",
  ]);
});

test("an event's name has nothing that its digest's encoding uses", () => {
  for (const name of bootEvents) equal(eventName.test(name), true, name);
  for (const name of ["", "a:b", "A", "a b", "a\n", "ä", "a".repeat(65)])
    equal(eventName.test(name), false, name);
});
