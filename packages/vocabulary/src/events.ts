// SPDX-License-Identifier: Apache-2.0
/** The events of RTMR3. */

/** One application-defined event of RTMR3; its digest follows from both fields. */
export interface RuntimeEvent {
  readonly name: string;
  readonly payload: Uint8Array;
}

/** Names of a guest's events: what keeps the digest's encoding unambiguous. */
export const eventName = /^[a-z0-9-]{1,64}$/;

/**
 * The boot events are measured exactly once each, in this order. Before the last one nothing else may be measured;
 * after it, any name but these.
 */
export const bootEvents = [
  "system-preparing",
  "app-id",
  "compose-hash",
  "instance-id",
  "secure-time",
  "boot-mr-done",
  "key-provider",
  "system-ready",
] as const;
export type BootEvent = (typeof bootEvents)[number];
