// SPDX-License-Identifier: Apache-2.0
/** What every implementation of AEAD_AES_SIV_CMAC_256 (RFC 5297) offers. */

/** Half of it keys the CMAC, half the counter mode. */
export const keyBytes = 32;
export const tagBytes = 16;

/** One implementation. `components` are the S2V inputs before the plaintext: associated data, then the nonce. */
export interface Siv {
  seal(key: Uint8Array, components: readonly Uint8Array[], plaintext: Uint8Array): Uint8Array;
  /** Throws NtsError `siv/authentication` when the tag does not match. */
  open(key: Uint8Array, components: readonly Uint8Array[], sealed: Uint8Array): Uint8Array;
}
