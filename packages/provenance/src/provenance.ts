// SPDX-License-Identifier: Apache-2.0
/**
 * Who built a released image, by a bundle of Sigstore: evidence beside the signatures of owners, never instead of them. No
 * network: what is believed of an instance of Sigstore is its trusted root, a file that whoever asks has pinned.
 *
 * An instance is named by a profile, because each gives something else: the public one logs certificates and signatures,
 * GitHub's own for private repositories logs nothing and has timestamps instead. One set of thresholds for both would lose
 * the log for everybody.
 */
import { ReleaseError } from "@caisson/releases";
import type { Provenance, ProvenanceQuestion } from "@caisson/releases/provenance";
import { toHex } from "@caisson/vocabulary/bytes";
import { canonicalJson } from "@caisson/vocabulary/canonical-json";
import { messageOf } from "@caisson/vocabulary/failure";
import { text } from "@caisson/vocabulary/frame";
import { sha256 } from "@caisson/vocabulary/merkle";
import { Recent } from "@caisson/vocabulary/recent";

const thresholds = {
  public: { tlogThreshold: 1, ctlogThreshold: 1, timestampThreshold: 1 },
  "github-private": { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 1 },
} as const;

const issuer = "https://token.actions.githubusercontent.com";
/** Extensions of Fulcio's certificates, each a UTF8String (github.com/sigstore/fulcio, docs/oid-info.md). */
const extensions = {
  runner: "1.3.6.1.4.1.57264.1.11",
  repository: "1.3.6.1.4.1.57264.1.12",
  commit: "1.3.6.1.4.1.57264.1.13",
};
const mediaTypes = [
  "application/vnd.dev.sigstore.bundle.v0.3+json",
  "application/vnd.dev.sigstore.bundle+json;version=0.3",
];
const predicateType = "https://slsa.dev/provenance/v1";

const malformed = (what: string): ReleaseError =>
  new ReleaseError("provenance/malformed", `this is not a Sigstore bundle that is taken: ${what}`);

/** What was found of a question, by its hash: it rests on no clock, for a bundle brings its own times. */
const known = new Recent<Provenance>();

/**
 * Throws ReleaseError `provenance/…` with the first reason why the bundle does not say that this workflow built the
 * manifest.
 */
export async function judgeProvenance(bundle: unknown, question: ProvenanceQuestion): Promise<Provenance> {
  let asked: string;
  try {
    asked = toHex(await sha256(text(canonicalJson({ bundle, ...question }))));
  } catch (error) {
    throw malformed(messageOf(error));
  }
  const found = known.get(asked) ?? (await judge(bundle, question));
  known.set(asked, found);
  return found;
}

async function judge(bundle: unknown, question: ProvenanceQuestion): Promise<Provenance> {
  const { profile, root, manifest } = question;
  const [{ bundleFromJSON }, { TrustedRoot }, { toSignedEntity, toTrustMaterial, Verifier }] =
    await Promise.all([
      import("@sigstore/bundle"),
      import("@sigstore/protobuf-specs"),
      import("@sigstore/verify"),
    ]);
  let parsed: ReturnType<typeof bundleFromJSON>;
  try {
    parsed = bundleFromJSON(bundle);
  } catch (error) {
    throw malformed(messageOf(error));
  }
  const { content, verificationMaterial, mediaType } = parsed;
  if (!mediaTypes.includes(mediaType)) throw malformed(`media type ${mediaType}`);
  if (content.$case !== "dsseEnvelope" || content.dsseEnvelope.signatures.length !== 1) {
    throw malformed("an envelope with one signature is expected");
  }
  if (verificationMaterial.content.$case !== "certificate") throw malformed("a certificate is expected");
  let trusted: ReturnType<typeof toTrustMaterial>;
  try {
    trusted = toTrustMaterial(TrustedRoot.fromJSON(root));
  } catch (error) {
    throw new ReleaseError("provenance/root", `this is not a trusted root of Sigstore: ${messageOf(error)}`);
  }
  if (trusted.tlogs.length > 0 !== (profile === "public")) {
    throw new ReleaseError("provenance/root", `this trusted root is not one of the profile ${profile}`, {
      expected: profile === "public" ? "a log" : "no log",
      actual: `${trusted.tlogs.length} logs`,
    });
  }
  let signer: ReturnType<InstanceType<typeof Verifier>["verify"]>;
  try {
    signer = new Verifier(trusted, thresholds[profile]).verify(toSignedEntity(parsed));
  } catch (error) {
    throw new ReleaseError("provenance/signature", `the bundle does not verify: ${messageOf(error)}`);
  }
  checkSubject(content.dsseEnvelope, manifest);
  return { profile, ...checkBuilder(signer.identity, question) };
}

/** The statement is about the manifest and nothing else: a subject among others may be there for another reason. */
export function checkSubject(
  { payload, payloadType }: { payload: Buffer; payloadType: string },
  manifest: string,
): void {
  if (payloadType !== "application/vnd.in-toto+json") throw malformed(`payload type ${payloadType}`);
  let statement: { _type?: unknown; predicateType?: unknown; subject?: unknown };
  try {
    statement = JSON.parse(payload.toString("utf8")) as typeof statement;
  } catch {
    throw malformed("its payload is not JSON");
  }
  const subjects = Array.isArray(statement.subject) ? (statement.subject as unknown[]) : [];
  const [subject] = subjects as { digest?: { sha256?: unknown } }[];
  if (statement._type !== "https://in-toto.io/Statement/v1" || statement.predicateType !== predicateType) {
    throw new ReleaseError("provenance/subject", "this statement is not a provenance", {
      expected: predicateType,
      actual: String(statement.predicateType),
    });
  }
  if (subjects.length === 1 && subject?.digest?.sha256 === manifest) return;
  throw new ReleaseError("provenance/subject", "this is the provenance of something else, or of more", {
    expected: `manifest ${manifest} alone`,
    actual: `${subjects.length} subjects, the first ${String(subject?.digest?.sha256)}`,
  });
}

interface Identity {
  subjectAlternativeName?: string | undefined;
  extensions?: { issuer?: string | undefined } | undefined;
  oids?: readonly { oid?: { id: number[] } | undefined; value: Buffer }[] | undefined;
}

/** The text of a UTF8String of fewer than 128 bytes. */
function extension({ oids = [] }: Identity, id: string): string | undefined {
  const value = oids.find(({ oid }) => oid?.id.join(".") === id)?.value;
  if (value === undefined || value[0] !== 0x0c || value[1] !== value.length - 2 || value.length > 129)
    return undefined;
  return value.subarray(2).toString("utf8");
}

/** The repository that a workflow's file lies in. */
const repositoryOf = (workflow: string): string => workflow.slice(0, workflow.indexOf("/.github/workflows/"));

/** Which workflow built it, and from which repository's sources: many may call one workflow. */
function checkBuilder(
  identity: Identity = {},
  { workflow, repository = repositoryOf(workflow) }: ProvenanceQuestion,
): { workflow: string; commit?: string } {
  const found = {
    issuer: identity.extensions?.issuer,
    runner: extension(identity, extensions.runner),
    repository: extension(identity, extensions.repository),
    workflow: identity.subjectAlternativeName ?? "",
  };
  const own = workflow.endsWith("*")
    ? found.workflow.startsWith(workflow.slice(0, -1))
    : found.workflow === workflow;
  if (
    found.issuer !== issuer ||
    found.runner !== "github-hosted" ||
    found.repository !== repository ||
    !own
  ) {
    throw new ReleaseError("provenance/builder", "somebody else built this, or not on a runner of GitHub's", {
      expected: `${workflow} for ${repository}, github-hosted, ${issuer}`,
      actual: `${found.workflow} for ${found.repository}, ${found.runner}, ${found.issuer}`,
    });
  }
  const commit = extension(identity, extensions.commit);
  return { workflow: found.workflow, ...(commit !== undefined && { commit }) };
}
