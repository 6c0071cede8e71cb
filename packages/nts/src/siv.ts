// SPDX-License-Identifier: Apache-2.0
/**
 * AEAD_AES_SIV_CMAC_256 (RFC 5297), the algorithm that every NTS implementation must have (RFC 8915, section 5.1).
 *
 * Deterministic and misuse resistant: a repeated nonce reveals only that two messages are equal. The output is the
 * 16-byte synthetic IV, which is also the tag, and then the ciphertext. OpenSSL's is used where this Node has it
 * (13 µs for a packet against 22 µs), `@noble/ciphers` otherwise; both pass the same vectors.
 */
import { getCipherInfo } from "node:crypto";
import { algorithm, siv as native } from "./siv.openssl.ts";
import type { Siv } from "./siv-types.ts";

/** What this machine uses. The portable one is loaded only where it is needed: its tables cost 20 ms under emulation. */
export const siv: Siv =
  getCipherInfo(algorithm) === undefined ? (await import("./siv-portable.ts")).portableSiv : native;
