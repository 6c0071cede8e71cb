// SPDX-License-Identifier: Apache-2.0
import { Failure } from "@caisson/vocabulary/failure";

/** Why a volume is not opened, or not used any longer. */
export type VolumeCode =
  | "volume/missing"
  | "volume/too-small"
  | "volume/damaged"
  | "volume/stale"
  | "volume/epoch"
  | "volume/log-tree"
  | "volume/changed"
  | "volume/not-anchored"
  | "volume/fenced"
  | "volume/read-error"
  | "volume/refused";

export class VolumeError extends Failure<VolumeCode, "rejected"> {
  override readonly name = "VolumeError";
  constructor(code: VolumeCode, message: string, cause?: unknown) {
    super(code, "rejected", message, cause === undefined ? {} : { cause });
  }
}
