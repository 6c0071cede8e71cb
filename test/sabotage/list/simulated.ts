// SPDX-License-Identifier: Apache-2.0
import { within } from "../sabotage.ts";

export const simulated = within("packages/simulated/src", [
  [
    "the quoting service signs whatever platform a guest claims",
    "simulated-platform.ts",
    "if (!platformFields.includes(field)) td[field] = value;",
    "td[field] = value;",
    "simulated-platform.test.ts",
  ],
  [
    "test signatures have another nonce each time",
    "p256.ts",
    "key = hmac(v, Uint8Array.of(step), secret, toBytes(z));",
    "key = hmac(v, Uint8Array.of(step), toBytes(z));",
    "p256.test.ts",
  ],
  [
    "a server's certificate is not for TLS servers",
    "test-authority.ts",
    '"2b06010505070301"',
    '"2b06010505070302"',
    "test-authority.test.ts",
  ],
]);
