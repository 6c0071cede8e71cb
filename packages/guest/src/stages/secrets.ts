// SPDX-License-Identifier: Apache-2.0
/**
 * The owners' secrets: exactly those that the description declares, from a document that is measured before anything
 * gets one of them, so that a verifier sees which set is in use. The KMS has judged the document (docs/releases.md); a
 * machine whose description declares none asks for none and measures nothing here.
 */
import { secretNames } from "@caisson/protocol/guest-config";
import { type Stage, StageFailure } from "../stage.ts";

export const secrets: Stage = {
  name: "secrets",
  limitMs: 60_000,
  async run(context) {
    const declared = secretNames(context.config.app);
    const { secrets: given } = context;
    if (given === undefined) {
      throw new StageFailure("secrets/missing", `no KMS gave ${declared.join(", ")}`);
    }
    const names = [...given.values.keys()].sort();
    if (names.join() !== declared.join()) {
      throw new StageFailure(
        "secrets/names",
        `the KMS gave ${names.join(", ") || "nothing"}; the description declares ${declared.join(", ")}`,
      );
    }
    await context.measure("secrets", Uint8Array.fromHex(given.hash));
    return `${declared.join(", ")} of document ${given.hash.slice(0, 16)}…`;
  },
};
