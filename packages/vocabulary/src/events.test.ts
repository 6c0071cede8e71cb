// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { allBootEvents, bootEvents, bootSequence, eventName } from "./events.ts";

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

test("optional events stand in their place, and only where they are asked for", () => {
  deepEqual(bootSequence(["secrets", "volumes"]), allBootEvents);
  deepEqual(bootSequence(["secrets"]).slice(-3), ["key-provider", "secrets", "system-ready"]);
  deepEqual(bootSequence(["volumes"]).slice(3, 6), ["instance-id", "volumes", "secure-time"]);
});

test("an event's name has nothing that its digest's encoding uses", () => {
  for (const name of allBootEvents) equal(eventName.test(name), true, name);
  for (const name of ["", "a:b", "A", "a b", "a\n", "ä", "a".repeat(65)])
    equal(eventName.test(name), false, name);
});
