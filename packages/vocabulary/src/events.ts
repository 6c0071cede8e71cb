// SPDX-License-Identifier: Apache-2.0
/** The events of RTMR3. */

/** One application-defined event of RTMR3; its digest follows from both fields. */
export interface RuntimeEvent {
  readonly name: string;
  readonly payload: Uint8Array;
}

/** Names of a guest's events: what keeps the digest's encoding unambiguous. */
export const eventName = /^[a-z0-9-]{1,64}$/;

/** Every boot event, in the order of measuring. Names of these never follow the last one. */
export const allBootEvents = [
  "system-preparing",
  "app-id",
  "compose-hash",
  "instance-id",
  "volumes",
  "secure-time",
  "boot-mr-done",
  "key-provider",
  "secrets",
  "system-ready",
] as const;
export type BootEvent = (typeof allBootEvents)[number];

/** Those that only images measure whose description asks for what they tell. */
export type OptionalEvent = Extract<BootEvent, "volumes" | "secrets">;
const optionalEvents: readonly BootEvent[] = ["volumes", "secrets"] satisfies OptionalEvent[];

/**
 * The boot events of an image that measures these optional ones: exactly once each, in this order. Before the last one
 * nothing else may be measured; after it, any name but those of `allBootEvents`.
 */
export function bootSequence(optional: readonly OptionalEvent[]): BootEvent[] {
  return allBootEvents.filter(
    (name) => !optionalEvents.includes(name) || (optional as readonly BootEvent[]).includes(name),
  );
}

/** The boot events of an image that asks for nothing more. */
export const bootEvents: readonly BootEvent[] = bootSequence([]);
