// SPDX-License-Identifier: Apache-2.0
/**
 * What may be asked of who built an image, beside everything that its owners sign and never instead of it: whoever may push
 * a tag can make a provenance. An entry of its own (`@caisson/releases/provenance`); the judgement itself needs Sigstore's
 * packages and is one of `@caisson/provenance`.
 */
import {
  type Infer,
  object,
  oneOf,
  optional,
  type Schema,
  SchemaError,
  text,
} from "@caisson/vocabulary/schema";

/** Instances of Sigstore: the public one has logs; GitHub's, for private repositories, has timestamps instead. */
export const provenanceProfiles = ["public", "github-private"] as const;
export type ProvenanceProfile = (typeof provenanceProfiles)[number];

const jsonObject: Schema<object> = (value) => {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new SchemaError("", "expected a JSON object");
};

export const provenanceRules = object({
  profile: oneOf(...provenanceProfiles),
  /** The instance's `trusted_root.json`, as whoever asks has pinned it. */
  root: jsonObject,
  /** The workflow that may build, by tag, branch or commit. The reference may end in *. */
  workflow: text(
    "https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@REF",
    /^https:\/\/[^\s*@]+\/\.github\/workflows\/[^\s*@]+@(?:refs\/[^\s*]+\*?|[0-9a-f]{40})$/,
    1000,
  ),
  /** Whose sources it builds. Default: the workflow's own repository. */
  repository: optional(text("https://github.com/OWNER/REPOSITORY", /^https:\/\/[^\s*@]+$/, 1000)),
});
export type ProvenanceRules = Infer<typeof provenanceRules>;

/** `manifest`: SHA-256 of the image's manifest, hex. */
export type ProvenanceQuestion = ProvenanceRules & { manifest: string };

/** Who built it, as the certificate of the builder says. */
export interface Provenance {
  profile: ProvenanceProfile;
  /** Workflow file and reference, a URI. */
  workflow: string;
  /** Of the sources, 40 hexadecimal digits; where the certificate says it. */
  commit?: string;
}

/** Judges a bundle of Sigstore (parsed JSON). Throws ReleaseError `provenance/…`. */
export type ProvenanceJudge = (bundle: unknown, question: ProvenanceQuestion) => Promise<Provenance>;
