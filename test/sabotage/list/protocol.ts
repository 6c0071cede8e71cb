// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const protocol = within("packages/protocol/src", [
  [
    "a denial's reason is not signed",
    "key-release.ts",
    "text(answer.code), text(answer.message));",
    "text(answer.message));",
    "key-release.test.ts",
  ],
  [
    "the time is not part of the signed answer",
    "key-release.ts",
    "exchange.ephemeralKey, u64(answer.time)];",
    "exchange.ephemeralKey];",
    "key-release.test.ts",
  ],
  [
    "sealed keys are not bound to the exchange",
    "key-release.ts",
    "info: frame(`${keyReleaseVersion}/seal`, nonce, identityKey, ephemeralKey),",
    "info: frame(`${keyReleaseVersion}/seal`, nonce, identityKey),",
    "key-release.test.ts",
  ],
  [
    "keys of two purposes are the same",
    "derivation.ts",
    "hkdf(secret, domain, app, instance, text(purpose), u32(version));",
    "hkdf(secret, domain, app, instance, u32(version));",
    "derivation.test.ts",
  ],
  [
    "an application's keys do not depend on the path",
    "derivation.ts",
    'hkdf(released, "caisson/application-key/v1", text(path), text(purpose));',
    'hkdf(released, "caisson/application-key/v1", text(purpose));',
    "derivation.test.ts",
  ],
  [
    "every signature is good",
    "ed25519.ts",
    "return verify(null, message, key, signature);",
    "return true;",
    "/packages/kms/src/release-log.test.ts",
  ],
  [
    "the instance document is read without a bound",
    "instance.ts",
    "if (length > instanceLimit || headerSize + length > device.length) {",
    "if (headerSize + length > device.length) {",
    "instance.test.ts",
  ],
  [
    "the console's line can be ended early",
    "console.ts",
    "replace(/[\\u2028\\u2029]/g,",
    "replace(/[\\u2028]/g,",
    "console.test.ts",
  ],
  [
    "members of canonical JSON are in no order",
    "canonical-json.ts",
    ".sort(([a], [b]) => (a < b ? -1 : 1));",
    ";",
    "canonical-json.test.ts",
  ],
  [
    "a fraction is canonical",
    "canonical-json.ts",
    'if (typeof value === "number" && Number.isSafeInteger(value))',
    'if (typeof value === "number")',
    "canonical-json.test.ts",
  ],
]);
