// SPDX-License-Identifier: Apache-2.0
/** Every control, in the order in which reports show them. */
import type { Control } from "../control.ts";
import { attackSurface } from "./attack-surface.ts";
import { attestation } from "./attestation.ts";
import { commandLine } from "./command-line.ts";
import { container } from "./container.ts";
import { containerCalls } from "./container-calls.ts";
import { containerLimits } from "./container-limits.ts";
import { devices } from "./devices.ts";
import { filesystem } from "./filesystem.ts";
import { firmware } from "./firmware.ts";
import { front } from "./front.ts";
import { capabilities } from "./kernel-capabilities.ts";
import { keyRelease } from "./key-release.ts";
import { network } from "./network.ts";
import { randomness } from "./randomness.ts";
import { selfProtection } from "./self-protection.ts";
import { time } from "./time.ts";
import { userspace } from "./userspace.ts";

export const catalogue: readonly Control[] = [
  ...commandLine,
  ...attackSurface,
  ...capabilities,
  ...selfProtection,
  ...randomness,
  ...time,
  ...firmware,
  ...devices,
  ...filesystem,
  ...userspace,
  ...network,
  ...containerCalls,
  ...container,
  ...containerLimits,
  ...front,
  ...keyRelease,
  ...attestation,
];

const byId = new Map(catalogue.map((control) => [control.id, control]));

/** The control of an id; undefined when there is none. */
export function controlOf(id: string): Control | undefined {
  return byId.get(id);
}
