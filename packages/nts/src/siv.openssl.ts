// SPDX-License-Identifier: Apache-2.0
/** AEAD_AES_SIV_CMAC_256 by OpenSSL: all that the guest's bundle has of `siv.ts`, as its Node has this cipher. */
import { type CipherGCM, createCipheriv, createDecipheriv, type DecipherGCM } from "node:crypto";
import { NtsError } from "./errors.ts";
import { type Siv, tagBytes } from "./siv-types.ts";

/** Node's types know the methods of AEAD ciphers for other modes only; SIV has the same ones as GCM. */
export const algorithm = "aes-128-siv";

const forged = () => new NtsError("siv/authentication", "the AES-SIV tag does not match");

/** AES-SIV of OpenSSL. One `setAAD` is one S2V component; without an `update`, even an empty one, `final` fails. */
export const siv: Siv = {
  seal(key, components, plaintext) {
    const cipher = createCipheriv(algorithm, key, null) as CipherGCM;
    for (const component of components) cipher.setAAD(component);
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    return Buffer.concat([cipher.getAuthTag(), ciphertext]);
  },
  open(key, components, sealed) {
    if (sealed.length < tagBytes) throw forged();
    const decipher = createDecipheriv(algorithm, key, null) as DecipherGCM;
    decipher.setAuthTag(sealed.subarray(0, tagBytes));
    for (const component of components) decipher.setAAD(component);
    try {
      const plaintext = decipher.update(sealed.subarray(tagBytes));
      decipher.final();
      return plaintext;
    } catch {
      throw forged();
    }
  },
};
