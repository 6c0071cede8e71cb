// SPDX-License-Identifier: Apache-2.0
/** What a file is that somebody drops onto the page, and what all of them together ask for. */
import {
  type AmdCollateral,
  type AnyEvidence,
  type Collateral,
  type Policy,
  type Reference,
  readAmdCollateral,
  readPolicy,
  readReferences,
} from "@caisson/verify";
import { isAmdCollateral } from "@caisson/verify/amd-collateral";
import { collateralFromText } from "@caisson/verify/collateral-forms";
import { isEvidence, readEvidence } from "@caisson/verify/every-form";
import { readYaml } from "@caisson/verify/policy-text";
import { fromBase64 } from "@caisson/vocabulary/bytes";
import { limits } from "@caisson/vocabulary/limits";
import type { ExampleFile } from "./examples.ts";

/** The bytes of an example's file. */
export const bytesOfExample = (file: ExampleFile): Uint8Array =>
  "text" in file ? new TextEncoder().encode(file.text) : fromBase64(file.base64)!;

/** A file by what it contains, never by its name. */
export type Dropped =
  | { kind: "evidence"; evidence: AnyEvidence }
  | { kind: "policy"; policy: Policy }
  | { kind: "references"; references: Reference[]; predicted: PredictedEvent[] }
  | { kind: "collateral"; collateral?: Collateral; amdCollateral?: AmdCollateral };

/** An event of a prediction (`caisson measure --json`): its digest, what it is, and the file that decides it. */
export interface PredictedEvent {
  register: string;
  digest: string;
  what: string;
  source: string;
  file: string | undefined;
}

/** A manifest's, a prediction's, or register values by name. */
const referenceFields = ["measurements", "registers", "launchDigest", "mrtd", "rtmr0", "rtmr1", "rtmr2"];

/** Recognises and reads a file. Throws what reading it throws, or a TypeError for what is none of these. */
export function readDropped(bytes: Uint8Array, name: string): Dropped {
  if (bytes.length > limits.document) throw new TypeError(`${name} is larger than ${limits.document} bytes`);
  const text = textOf(bytes);
  const document = text === undefined ? undefined : dataOf(text);
  if (typeof document === "object" && document !== null) {
    const fields = document as Record<string, unknown>;
    if (typeof fields.version === "string" && fields.version.startsWith("caisson/policy/")) {
      return { kind: "policy", policy: readPolicy(document) };
    }
    if (text !== undefined && isAmdCollateral(text)) {
      return { kind: "collateral", amdCollateral: readAmdCollateral(document) };
    }
    if ("tcb_info" in fields) return { kind: "collateral", collateral: collateralFromText(text!, name) };
    if (referenceFields.some((name) => name in fields)) {
      return {
        kind: "references",
        references: readReferences(document, name),
        predicted: predictedEvents(fields),
      };
    }
  }
  if (isEvidence(bytes)) return { kind: "evidence", evidence: readEvidence(bytes) };
  throw new TypeError(`${name} is neither evidence nor a policy, reference values or collateral`);
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function dataOf(text: string): unknown {
  try {
    return text.trimStart().startsWith("{")
      ? JSON.parse(text)
      : /^[\w"#]/.test(text) && text.includes(":")
        ? readYaml(text)
        : undefined;
  } catch {
    return undefined;
  }
}

function predictedEvents({ events, files }: Record<string, unknown>): PredictedEvent[] {
  if (!Array.isArray(events)) return [];
  const names = typeof files === "object" && files !== null ? (files as Record<string, unknown>) : {};
  return events.flatMap((event: unknown) => {
    const { register, digest, what, source } = (event ?? {}) as Record<string, unknown>;
    const words = [register, digest, what, source].map((word) =>
      typeof word === "string" ? word : undefined,
    );
    if (words.includes(undefined)) return [];
    const [inRegister, value, is, from] = words as [string, string, string, string];
    const file = names[from];
    return [
      {
        register: inRegister,
        digest: value,
        what: is,
        source: from,
        file: typeof file === "string" ? file : undefined,
      },
    ];
  });
}
