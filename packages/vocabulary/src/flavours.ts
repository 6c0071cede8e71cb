// SPDX-License-Identifier: Apache-2.0
/** Which of an image's two forms: what runs in earnest, and what runs on a developer's machine and says more. */
export const flavours = ["production", "development"] as const;
export type Flavour = (typeof flavours)[number];
