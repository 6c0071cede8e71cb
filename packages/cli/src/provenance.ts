// SPDX-License-Identifier: Apache-2.0
/**
 * Who built a released image, by a bundle of Sigstore: evidence beside the signatures of owners, never instead of them. No
 * network: what is believed of an instance of Sigstore is its trusted root, a file that whoever asks has pinned.
 *
 * An instance is named by a profile, because each gives something else: the public one logs certificates and signatures,
 * GitHub's own for private repositories logs nothing and has timestamps instead. One set of thresholds for both would lose
 * the log for everybody.
 */
import { Failure, messageOf } from "@caisson/vocabulary/failure";
import { type Command, Option } from "commander";
import { UsageError } from "./failure.ts";
import { readText } from "./judgement-files.ts";

export type ProvenanceErrorCode =
  | "provenance/malformed"
  | "provenance/root"
  | "provenance/signature"
  | "provenance/subject"
  | "provenance/builder";

export class ProvenanceError extends Failure<ProvenanceErrorCode, "input" | "rejected"> {
  override readonly name = "ProvenanceError";
  constructor(
    code: ProvenanceErrorCode,
    message: string,
    options: { expected?: string; actual?: string } = {},
  ) {
    const { expected, actual } = options;
    super(code, code === "provenance/malformed" ? "input" : "rejected", message, {
      facts: [
        ...(expected === undefined ? [] : [["expected", expected] as const]),
        ...(actual === undefined ? [] : [["found", actual] as const]),
      ],
    });
  }
}

const thresholds = {
  public: { tlogThreshold: 1, ctlogThreshold: 1, timestampThreshold: 1 },
  "github-private": { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 1 },
} as const;

export type ProvenanceProfile = keyof typeof thresholds;
export const provenanceProfiles = Object.keys(thresholds) as ProvenanceProfile[];

/** Who built it, as the certificate of the builder says. */
export interface Provenance {
  profile: ProvenanceProfile;
  /** Workflow file and ref, a URI. */
  workflow: string;
  /** Of the sources, 40 hexadecimal digits; where the certificate says it. */
  commit?: string;
}

/** What it is judged by. */
export interface ProvenanceJudgement {
  profile: ProvenanceProfile;
  /** Sigstore's `trusted_root.json`, as JSON. */
  root: unknown;
  /** The workflow that may build: `https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@REF`; REF may end in *. */
  workflow: string;
  /** SHA-256 of the image's manifest, hex. */
  manifest: string;
}

const issuer = "https://token.actions.githubusercontent.com";
/** Extensions of Fulcio's certificates, each a UTF8String (github.com/sigstore/fulcio, docs/oid-info.md). */
const extensions = { runner: "1.3.6.1.4.1.57264.1.11", commit: "1.3.6.1.4.1.57264.1.13" };
const mediaTypes = [
  "application/vnd.dev.sigstore.bundle.v0.3+json",
  "application/vnd.dev.sigstore.bundle+json;version=0.3",
];
const predicateType = "https://slsa.dev/provenance/v1";

const malformed = (what: string): ProvenanceError =>
  new ProvenanceError("provenance/malformed", `this is not a Sigstore bundle that is taken: ${what}`);

/** Throws ProvenanceError with the first reason why the bundle does not say that this workflow built the manifest. */
export async function judgeProvenance(bundle: unknown, judgement: ProvenanceJudgement): Promise<Provenance> {
  const { profile, root, workflow, manifest } = judgement;
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
    throw new ProvenanceError(
      "provenance/root",
      `this is not a trusted root of Sigstore: ${messageOf(error)}`,
    );
  }
  if (trusted.tlogs.length > 0 !== (profile === "public")) {
    throw new ProvenanceError("provenance/root", `this trusted root is not one of the profile ${profile}`, {
      expected: profile === "public" ? "a log" : "no log",
      actual: `${trusted.tlogs.length} logs`,
    });
  }
  let signer: ReturnType<InstanceType<typeof Verifier>["verify"]>;
  try {
    signer = new Verifier(trusted, thresholds[profile]).verify(toSignedEntity(parsed));
  } catch (error) {
    throw new ProvenanceError("provenance/signature", `the bundle does not verify: ${messageOf(error)}`);
  }
  checkSubject(content.dsseEnvelope, manifest);
  return { profile, ...checkBuilder(signer.identity, workflow) };
}

/** The statement is about the manifest and nothing else: a subject among others may be there for another reason. */
function checkSubject(
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
    throw new ProvenanceError("provenance/subject", "this statement is not a provenance", {
      expected: predicateType,
      actual: String(statement.predicateType),
    });
  }
  if (subjects.length === 1 && subject?.digest?.sha256 === manifest) return;
  throw new ProvenanceError("provenance/subject", "this is the provenance of something else, or of more", {
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

function checkBuilder(identity: Identity = {}, workflow: string): { workflow: string; commit?: string } {
  const found = {
    issuer: identity.extensions?.issuer,
    runner: extension(identity, extensions.runner),
    workflow: identity.subjectAlternativeName ?? "",
  };
  const own = workflow.endsWith("*")
    ? found.workflow.startsWith(workflow.slice(0, -1))
    : found.workflow === workflow;
  if (found.issuer !== issuer || found.runner !== "github-hosted" || !own) {
    throw new ProvenanceError(
      "provenance/builder",
      "somebody else built this, or not on a runner of GitHub's",
      {
        expected: `${workflow}, github-hosted, ${issuer}`,
        actual: `${found.workflow}, ${found.runner}, ${found.issuer}`,
      },
    );
  }
  const commit = extension(identity, extensions.commit);
  return { workflow: found.workflow, ...(commit !== undefined && { commit }) };
}

/** The options that ask for it. */
export interface ProvenanceOptions {
  provenance?: string;
  provenanceProfile?: ProvenanceProfile;
  provenanceRoot?: string;
  provenanceWorkflow?: string;
}

export const withProvenance = (command: Command): Command =>
  command
    .option(
      "--provenance <FILE>",
      "a Sigstore bundle over the manifest, asked for beside all of the owners' rules",
    )
    .addOption(
      new Option("--provenance-profile <NAME>", "whose: GitHub's private repositories have no log").choices(
        provenanceProfiles,
      ),
    )
    .option("--provenance-root <FILE>", "that instance's trusted_root.json, as you have pinned it")
    .option(
      "--provenance-workflow <URI>",
      "the URI of its workflow, …/.github/workflows/FILE@REF; REF may end in *",
    );

function readJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw malformed(`${path} is not JSON`);
  }
}

/** The provenance that the options ask for; undefined where they ask for none. Throws ProvenanceError, UsageError. */
export async function readProvenance(
  options: ProvenanceOptions,
  manifest: string,
): Promise<Provenance | undefined> {
  const {
    provenance,
    provenanceProfile: profile,
    provenanceRoot: root,
    provenanceWorkflow: workflow,
  } = options;
  if ((provenance ?? profile ?? root ?? workflow) === undefined) return undefined;
  if (provenance === undefined || profile === undefined || root === undefined || workflow === undefined) {
    throw new UsageError(
      "a provenance is judged by profile, trusted root and workflow",
      "--provenance, --provenance-profile, --provenance-root and --provenance-workflow together",
    );
  }
  if (!/^https:\/\/[^\s*@]+\/\.github\/workflows\/[^\s*@]+@refs\/[^\s*]+\*?$/.test(workflow)) {
    throw new UsageError(
      `'${workflow}' names no workflow`,
      "https://github.com/OWNER/REPO/.github/workflows/FILE@refs/tags/*",
    );
  }
  return judgeProvenance(readJson(provenance), { profile, root: readJson(root), workflow, manifest });
}
