// SPDX-License-Identifier: Apache-2.0
/**
 * Commands that run wherever Node does, for those who judge a machine without having one: nothing that they import is
 * native or Linux's alone (test/integration/packages.test.ts).
 */
import type { Commands } from "./edition.ts";

export const portableCommands: Commands = {
  inspect: [
    "show what a firmware, an event log or evidence consists of",
    () => import("./commands/inspect.ts"),
  ],
  measure: ["predict a boot's registers from files, or explain a log", () => import("./commands/measure.ts")],
  policy: ["write a policy from evidence, or explain one", () => import("./commands/policy.ts")],
  time: ["ask NTS servers for the time and show who agrees", () => import("./commands/time.ts")],
  verify: ["judge evidence: is it genuine, and is it acceptable?", () => import("./commands/verify.ts")],
};
