// SPDX-License-Identifier: Apache-2.0
/**
 * The platforms that evidence can be of. A decision that depends on the platform is a `PlatformTable`, or a `switch`
 * that the compiler proves exhaustive, so that a new name here makes the compiler list every place that must decide.
 */

/** `emulated`: a development image on a plain machine, which proves nothing about hardware. */
export const platforms = ["tdx", "emulated"] as const;
export type Platform = (typeof platforms)[number];

/** One row for each platform. */
export type PlatformTable<T> = Readonly<Record<Platform, T>>;

export function isPlatform(text: string | undefined): text is Platform {
  return (platforms as readonly (string | undefined)[]).includes(text);
}

/** Whether genuine evidence of a platform shows that hardware protects the guest. */
export const provesHardware: PlatformTable<boolean> = { tdx: true, emulated: false };
