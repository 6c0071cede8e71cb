// SPDX-License-Identifier: Apache-2.0
/** Opens the machine to connections from outside, where the description has a front: after the services run. */

import { messageOf } from "@caisson/vocabulary/failure";
import { startFront } from "../services/front.ts";
import type { Running } from "../services/launch.ts";
import type { Fronted } from "../services/prepare.ts";
import { type Stage, StageFailure } from "../stage.ts";

const limitMs = 120_000;

/** `fronted` gives what the services' stage prepared. */
export function frontStage(fronted: () => Fronted, began: (running: Running) => void): Stage {
  return {
    name: "front",
    limitMs,
    async run(context) {
      const { port, require } = context.config.app.front!;
      const { prepared, keys, host } = fronted();
      try {
        began(await startFront(context, prepared, keys, host));
      } catch (error) {
        throw new StageFailure("front/start", messageOf(error));
      }
      return `port ${port}, ${require === "encrypted" ? "sealed requests only" : "TLS 1.3"}`;
    },
  };
}
