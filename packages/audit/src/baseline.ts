// SPDX-License-Identifier: Apache-2.0
/** The baseline: failures that somebody accepted, for a reason and for a time. */
import { mistakesInWords } from "@caisson/protocol/zod-words";
import * as z from "zod/mini";
import { controlOf } from "./catalogue/index.ts";
import { AuditError } from "./errors.ts";

const schema = z.strictObject({
  version: z.literal("caisson/audit-baseline/v1"),
  accepted: z
    .array(
      z.strictObject({
        control: z.string(),
        /** Missing: wherever it fails. */
        kind: z.optional(z.enum(["static", "live", "remote"])),
        reason: z.string().check(z.minLength(10), z.maxLength(500)),
        /** Last day, UTC. */
        expires: z.iso.date(),
      }),
    )
    .check(z.maxLength(200)),
});

export type Acceptance = z.infer<typeof schema>["accepted"][number];

/** Checks a parsed baseline. Throws AuditError `baseline/schema` or `baseline/unknown-control`. */
export function parseBaseline(value: unknown): Acceptance[] {
  const result = schema.safeParse(value);
  if (!result.success) {
    throw new AuditError(
      "baseline/schema",
      `this baseline is malformed: ${mistakesInWords(result.error.issues, value, "the document")}`,
      {
        fix: "each entry has control, reason (at least 10 characters) and expires (YYYY-MM-DD)",
      },
    );
  }
  for (const { control } of result.data.accepted) {
    if (controlOf(control) === undefined) {
      throw new AuditError(
        "baseline/unknown-control",
        `the baseline accepts '${control}', which is not a control`,
        {
          fix: "caisson audit --list shows them",
        },
      );
    }
  }
  return result.data.accepted;
}
