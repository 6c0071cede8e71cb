// SPDX-License-Identifier: Apache-2.0
/** The same as OpenSSL's in `siv.openssl.ts`, for a Node that was built without it; the guest's has it. */
import { aessiv } from "@noble/ciphers/aes.js";
import { NtsError } from "./errors.ts";
import type { Siv } from "./siv-types.ts";

/** AES-SIV in JavaScript. */
export const portableSiv: Siv = {
  seal: (key, components, plaintext) => aessiv(key, ...components).encrypt(plaintext),
  open(key, components, sealed) {
    try {
      return aessiv(key, ...components).decrypt(sealed);
    } catch {
      throw new NtsError("siv/authentication", "the AES-SIV tag does not match");
    }
  },
};
