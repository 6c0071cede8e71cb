// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const protocol = within("packages/protocol/src", [
  [
    "an event that the kernel wrote into is lost",
    "console.ts",
    'for (const head of ["", ...heads]) {',
    'for (const head of [""]) {',
    "console.test.ts",
  ],
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
    "/packages/kms/src/store/sqlite.test.ts",
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
    "a request for another key is tried",
    "tunnel.ts",
    "if (header.length !== tunnelHeaderSize || start.some((byte, at) => header[at] !== byte)) {",
    "if (header.length !== tunnelHeaderSize) {",
    "tunnel.test.ts",
  ],
  [
    "a body may end inside a frame",
    "ehbp.ts",
    '    if (this.#held.length > 0) throw new FramingError("the body ends inside a frame");',
    "",
    "ehbp.test.ts",
  ],
  [
    "empty frames come without end",
    "ehbp.ts",
    "if (++this.#empty > emptyLimit) throw",
    "if (false) throw",
    "ehbp.test.ts",
  ],
]);
