// SPDX-License-Identifier: Apache-2.0
/** Evidence of this machine: one self-contained document, `caisson/evidence/v1`. */

import type { Instance } from "@caisson/protocol/instance";
import type { Collateral, EvidenceDocument } from "@caisson/verify";
import { toHex } from "@caisson/vocabulary/bytes";
import type { RuntimeLog } from "./event-log.ts";
import type { PlatformAdapter } from "./platform.ts";

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
/** Evidence over 64 bytes of report data; `claim` says what they bind. Every call asks for a fresh quote. */
export type Attest = (
  reportData: Uint8Array,
  claim: EvidenceDocument["reportData"],
) => Promise<EvidenceDocument>;

/** What the host gave to be passed on, if it did: nothing of it is judged here, where no verifier would believe it. */
type Stapled = Pick<Instance, "release" | "collateral">;

export function attester(
  platform: PlatformAdapter,
  log: RuntimeLog,
  given: () => Stapled | undefined,
): Attest {
  return async (reportData, claim) => ({
    version: "caisson/evidence/v1",
    platform: platform.name,
    quote: base64(await platform.quote(reportData)),
    bootLog: base64(await platform.bootLog()),
    runtimeEvents: log.events.map(({ name, payload }) => ({ name, payload: toHex(payload) })),
    reportData: claim,
    ...stapled(given()),
  });
}

function stapled({ release, collateral }: Stapled = {}): Pick<EvidenceDocument, "release" | "collateral"> {
  return {
    ...(release !== undefined && { release }),
    ...(collateral !== undefined && { collateral: collateral as Collateral }),
  };
}
