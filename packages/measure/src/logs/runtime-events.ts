// SPDX-License-Identifier: Apache-2.0
/**
 * Digests of RTMR3 events in the encodings of dstack (its cc-eventlog crate, runtime_events.rs).
 *
 * Version 1 joins its fields with ":" and so stays unambiguous only while names hold none: the caller restricts
 * names to `[a-z0-9-]+`. Version 2 is the canonical JSON (RFC 8785) of an object with sorted keys.
 */

import { toHex } from "@caisson/vocabulary/bytes";
import { text } from "@caisson/vocabulary/frame";
import { sha384 } from "#sha";

/** Little endian. */
const eventType = Uint8Array.of(1, 0, 0, 8);

/** Event type of an application-defined RTMR3 event. */
export const RUNTIME_EVENT_TYPE = 0x08000001;

/** Version 1: SHA384(LE32(0x08000001) ‖ ":" ‖ name ‖ ":" ‖ payload). 48 bytes. */
export function runtimeEventDigest(name: string, payload: Uint8Array): Promise<Uint8Array> {
  return sha384(eventType, text(`:${name}:`), payload);
}

/** Version 2: SHA384 of `{"name":…,"payload":"<lower-case hex>","type":134217729}` in canonical JSON. 48 bytes. */
export function runtimeEventDigestV2(name: string, payload: Uint8Array): Promise<Uint8Array> {
  const canonical = `{"name":${JSON.stringify(name)},"payload":"${toHex(payload)}","type":${RUNTIME_EVENT_TYPE}}`;
  return sha384(text(canonical));
}
