// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS in guests, with keepers in its image: when all guests are gone, they give the root secret to one that they
 * judged.
 */
process.env.CAISSON_TEST_RECOVERY = "1";
await import("../e2e/kms-guest.test.ts");
