// SPDX-License-Identifier: Apache-2.0
/**
 * Evidence for whoever started a development machine, whatever its application does: over the challenge of the
 * instance document, on the console. It tells the host nothing that an application could not, and decides nothing.
 */

import type { ConsoleEvent } from "@caisson/protocol/console";
import { reportData } from "@caisson/verify/report-data";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Context } from "./stage.ts";

/** Base64 characters of a line. */
const partSize = 12_000;

type Part = Omit<Extract<ConsoleEvent, { kind: "evidence" }>, "at">;

/** Answers the challenge if there is one. A fault is only said: the application runs on. */
export async function answerChallenge(context: Context, say: (part: Part) => void): Promise<void> {
  const nonce = context.instance?.challenge;
  if (nonce === undefined) return;
  try {
    const bound = await reportData("caisson/app/v1", { nonce: Buffer.from(nonce, "hex") });
    // Who challenges on the console gave the collateral: a slow line need not carry it back.
    const { collateral: _, ...evidence } = await context.attest(bound, {
      scheme: "caisson/app/v1",
      fields: { nonce },
    });
    const text = Buffer.from(JSON.stringify(evidence)).toString("base64");
    const of = Math.ceil(text.length / partSize);
    for (let part = 0; part < of; part++) {
      say({ kind: "evidence", part, of, data: text.slice(part * partSize, (part + 1) * partSize) });
    }
  } catch (error) {
    context.log(`no evidence over the challenge: ${messageOf(error)}`);
  }
}
