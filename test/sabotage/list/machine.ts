// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const machine = within("packages/machine/src", [
  [
    "a relying party takes evidence of any age",
    "relying-party.ts",
    "    expectedReportData: freshReportData(nonce),",
    "",
    "relying-party.test.ts",
  ],
  [
    "a relying party reads without a bound",
    "relying-party.ts",
    "if (more) throw",
    "if (false) throw",
    "relying-party.test.ts",
  ],
  [
    "MRCONFIGID does not name the application",
    "production.ts",
    "  value.set(hasIdentity ? id : composeHash(description(manifest.guest)), 1);",
    "",
    "production.test.ts",
  ],
  [
    "a new volume is made where a link leads nowhere",
    "volume-disks.ts",
    "  if (file === undefined) {",
    "  if (false) {",
    "volume-disks.test.ts",
  ],
  [
    "MRCONFIGID names no version of itself",
    "production.ts",
    "  value[0] = hasIdentity ? 2 : 1;",
    "",
    "production.test.ts",
  ],
  [
    "each start is another instance",
    "state.ts",
    'if (!existsSync(path)) writeWhole(path, randomBytes(20).toString("hex"), 0o600);',
    'writeWhole(path, randomBytes(20).toString("hex"), 0o600);',
    "state.test.ts",
  ],
  [
    "a development policy accepts production too",
    "development-policy.ts",
    'platforms: ["emulated"],',
    'platforms: ["tdx", "emulated"],',
    "development-policy.test.ts",
  ],
  [
    "a development policy accepts any application",
    "development-policy.ts",
    "? { id: [id], composeHash:",
    '? { id: "any", composeHash:',
    "development-policy.test.ts",
  ],
  [
    "a development policy leaves registers open",
    "development-policy.ts",
    ".filter((name) => !Object.hasOwn(references, name));",
    ";",
    "development-policy.test.ts",
  ],
]);
