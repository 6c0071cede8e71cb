// SPDX-License-Identifier: Apache-2.0
/** `caisson release …`: say which image an application may run, sign it, take it back, and judge it. Offline. */
import { createHash } from "node:crypto";
import { parseManifest } from "@caisson/image";
import { description } from "@caisson/protocol/guest-config";
import { composeHash } from "@caisson/protocol/identity";
import {
  revoke as applyRevocation,
  checkSuccessor,
  type EntryKind,
  type Envelope,
  emptyFloor,
  type Floor,
  type Identity,
  identityPayloadType,
  judgeRelease,
  type LogProof,
  type Measured,
  predicateTypes,
  ReleaseError,
  readBundle,
  readProof,
  readStatement,
  readTrustPolicy,
  type Statement,
  secretsPayloadType,
  writeBundle,
  writeStatement,
} from "@caisson/releases";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { parseTime, readBounded } from "../judgement-files.ts";
import { days, releaseNumber, whole } from "../number-options.ts";
import { writeNewFile } from "../output-file.ts";
import { readTextFile } from "../passphrase-file.ts";
import { type ProvenanceOptions, readProvenance, readProvenanceFile, withProvenance } from "../provenance.ts";
import {
  envelopeText,
  inWords,
  manifestPath,
  readEnvelopeFile,
  readIdentityFiles,
  releaseLines,
  signFile,
  writtenTime,
} from "../release-files.ts";
import { openTransparencyLog } from "../transparency-log.ts";
import { answer } from "../views/answer.ts";

const releaseNumbers = (text: string, before: number[] = []): number[] => [...before, releaseNumber(text)];

const parseGenerations = (text: string, before: number[] | undefined): number[] =>
  text === "0" ? [...(before ?? []), 0] : releaseNumbers(text, before);

const day = 24 * 3600 * 1000;

/** What of an image is signed: the bytes of its manifest, and the description of its application. */
function measuredOf(image: string): Measured {
  const path = manifestPath(image);
  const bytes = readBounded(path);
  const { guest } = parseManifest(new TextDecoder().decode(bytes), path);
  return {
    manifest: createHash("sha256").update(bytes).digest("hex"),
    description: composeHash(description(guest)).toHex(),
  };
}

interface Whose {
  identity: string;
  generation: string[];
}

const withIdentity = (command: Command): Command =>
  command
    .requiredOption("--identity <FILE>", "the application's first identity document")
    .option("--generation <FILE...>", "signed later generations, in order", []);

const prepare = withIdentity(new Command("prepare"))
  .description("write a release of an image, to be signed; it follows --after, or is the first")
  .requiredOption("--image <DIR>", "the image's directory, or its manifest.json")
  .option("--after <FILE>", "the release before it")
  .option(
    "--minimum <N>",
    "releases with a lower number are refused from then on; as before when left out",
    releaseNumber,
  )
  .option("--not-before <TIME>", "now when left out")
  .option("--days <N>", "how long it is valid", days, 90)
  .option("--notes <TEXT>", "for people", "")
  .requiredOption("--output <FILE>", "the new file")
  .action(
    async (
      options: Whose & {
        image: string;
        after?: string;
        minimum?: number;
        notBefore?: string;
        days: number;
        notes: string;
        output: string;
      },
    ) => {
      const { id, identity } = await readIdentityFiles(options.identity, options.generation);
      const before =
        options.after === undefined
          ? undefined
          : await readStatement("release", readEnvelopeFile(options.after));
      if (before !== undefined && before.predicate.app !== id) {
        throw new UsageError(
          `${options.after} is a release of another application`,
          "the release before this one",
        );
      }
      const { manifest, description: described } = measuredOf(options.image);
      const from = parseTime(options.notBefore).getTime();
      const unsigned = writeStatement("release", [manifest, described], {
        app: id,
        generation: identity.document.generation,
        release: (before?.predicate.release ?? 0) + 1,
        previous: before?.hash ?? null,
        minimum: options.minimum ?? before?.predicate.minimum ?? 1,
        notBefore: writtenTime(from),
        expires: writtenTime(from + options.days * day),
        notes: options.notes,
      });
      const envelope = { ...unsigned, signatures: [] };
      const release = await readStatement("release", envelope);
      checkSuccessor(before, release);
      writeNewFile(options.output, envelopeText(envelope));
      process.stdout.write(`${releaseLines(release).join("\n")}\n`);
    },
  );

const revoke = withIdentity(new Command("revoke"))
  .description("write a revocation, to be signed by a stop key; it is for ever")
  .option("--release <N>", "a release's number; may be given again", releaseNumbers)
  .option("--of-generation <N>", "all releases of a generation; may be given again", parseGenerations)
  .requiredOption("--reason <TEXT>", "for people")
  .requiredOption("--output <FILE>", "the new file")
  .action(
    async (
      options: Whose & { release?: number[]; ofGeneration?: number[]; reason: string; output: string },
    ) => {
      const { release = [], ofGeneration = [] } = options;
      if (release.length + ofGeneration.length === 0) {
        throw new UsageError("nothing is revoked", "--release N, or --of-generation N");
      }
      const { id } = await readIdentityFiles(options.identity, options.generation);
      const rising = (numbers: number[]) => [...new Set(numbers)].sort((a, b) => a - b);
      const unsigned = writeStatement("revocation", [id], {
        app: id,
        releases: rising(release),
        generations: rising(ofGeneration),
        reason: options.reason,
      });
      const envelope = { ...unsigned, signatures: [] };
      const words = await inWords(envelope);
      writeNewFile(options.output, envelopeText(envelope));
      process.stdout.write(`${words.join("\n")}\n`);
    },
  );

const sign = new Command("sign")
  .description("say in words what a release or a revocation says, and sign it")
  .argument("<FILE>", "from caisson release prepare or revoke; gets one more signature")
  .requiredOption("--key <FILE>", "from caisson owner new")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .action(signFile);

const hour = 3600 * 1000;

const verify = withProvenance(withIdentity(new Command("verify")))
  .description(
    "judge a release by its application's rules: exit code 0 it may run, 10 it may not, 30 malformed",
  )
  .argument("<FILE>", "the release")
  .requiredOption("--image <DIR>", "what is to run: the image's directory, or its manifest.json")
  .option("--log <LOG>", "where it is logged: proof, rebuilds, minimum and revocations are taken from there")
  .option("--log-policy <FILE>", "whom to believe of that log; the identity's own policy when left out")
  .option("--proof <FILE>", "that it is logged (tlog-proof), where its identity names a log")
  .option("--maximum-log-age <HOURS>", "how old the witnesses' view of the log may be", whole(1, 876_000), 24)
  .option("--rebuild <FILE...>", "rebuilds, where its identity asks for some", [])
  .option("--revocation <FILE...>", "revocations that are known", [])
  .option("--minimum <N>", "the highest minimum that is known", releaseNumber)
  .option("--at <TIME>", "judge as of this time; now when left out")
  .option("--json", "one JSON document")
  .action(
    async (
      file: string,
      options: Whose &
        ProvenanceOptions & {
          image: string;
          log?: string;
          logPolicy?: string;
          proof?: string;
          maximumLogAge: number;
          rebuild: string[];
          revocation: string[];
          minimum?: number;
          at?: string;
          json?: boolean;
        },
    ) => {
      const { id, identity } = await readIdentityFiles(options.identity, options.generation);
      const release = await readStatement("release", readEnvelopeFile(file));
      const logged =
        options.log === undefined
          ? undefined
          : await loggedOf(options.log, options.logPolicy, identity, id, release.hash);
      const known = logged?.floor ?? emptyFloor;
      let floor: Floor = { ...known, minimum: Math.max(known.minimum, options.minimum ?? 0) };
      for (const path of options.revocation) {
        const revocation = await readStatement("revocation", readEnvelopeFile(path));
        floor = await applyRevocation(floor, revocation, { id, identity });
      }
      const rebuilds = options.rebuild.map((path) => readStatement("rebuild", readEnvelopeFile(path)));
      await judgeRelease(release, {
        id,
        identity,
        measured: measuredOf(options.image),
        now: parseTime(options.at).getTime(),
        floor,
        maximumLogAgeMs: options.maximumLogAge * hour,
        rebuilds: [...(await Promise.all(rebuilds)), ...(logged?.rebuilds ?? [])],
        ...(logged !== undefined && { proof: logged.proof }),
        ...(options.proof !== undefined && { proof: readProof(readTextFile(options.proof)) }),
      });
      const { release: number, expires } = release.predicate;
      const [manifest] = release.subjects as [string, string];
      const provenance = await readProvenance(options, manifest);
      const document = {
        verdict: "accepted",
        app: id,
        release: number,
        hash: release.hash,
        expires: writtenTime(expires),
        ...(provenance !== undefined && { provenance }),
      };
      const built = provenance === undefined ? "" : `, built by ${provenance.workflow}`;
      const text = `accepted: release ${number} of application ${id}, until ${writtenTime(expires)}${built}`;
      answer(options.json, document, text);
    },
  );

/** What an envelope is, for a log. */
function kindOf({ payload, payloadType }: Envelope): EntryKind {
  if (payloadType === identityPayloadType) return "identity";
  if (payloadType === secretsPayloadType) return "secrets";
  const { predicateType } = JSON.parse(new TextDecoder().decode(payload)) as { predicateType?: string };
  const found = Object.entries(predicateTypes).find(([, type]) => type === predicateType);
  if (found !== undefined) return found[0] as EntryKind;
  throw new ReleaseError("envelope/malformed", "this is nothing that a log of releases takes");
}

const publish = withIdentity(new Command("publish"))
  .description("send signed documents to a log; needs no key. The identity and its generations go first")
  .argument("[FILE...]", "releases, revocations, rebuilds, secrets")
  .requiredOption("--log <URL>", "the log's address")
  .option("--json", "one JSON document")
  .action(async (files: string[], options: Whose & { log: string; json?: boolean }) => {
    const { id } = await readIdentityFiles(options.identity, options.generation);
    const first = {
      payload: readBounded(options.identity),
      payloadType: identityPayloadType,
      signatures: [],
    };
    const named = [...options.generation, ...files].map((file) => ({
      file,
      envelope: readEnvelopeFile(file),
    }));
    const places: { file: string; index: number }[] = [];
    for (const { file, envelope } of [{ file: options.identity, envelope: first }, ...named]) {
      const { addToLog } = await import("@caisson/log");
      places.push({ file, index: await addToLog(options.log, kindOf(envelope), id, envelope) });
    }
    const text = places.map(({ file, index }) => `${file}: entry ${index}`).join("\n");
    answer(options.json, places, text);
  });

const bundle = withIdentity(new Command("bundle"))
  .description("put together what evidence carries: identity, release, proof, rebuilds, the image's manifest")
  .argument("<FILE>", "the release")
  .requiredOption("--image <DIR>", "the image's directory, or its manifest.json")
  .option("--log <LOG>", "where it is logged: the proof, rebuilds and revocations are taken from there")
  .option("--log-policy <FILE>", "whom to believe of that log; the identity's own policy when left out")
  .option("--rebuild <FILE...>", "rebuilds", [])
  .option("--revocation <FILE...>", "revocations", [])
  .option("--provenance <FILE>", "who built it: a Sigstore bundle over the manifest, for policies that ask")
  .requiredOption("--output <FILE>", "the new file")
  .action(
    async (
      file: string,
      options: Whose & {
        image: string;
        log?: string;
        logPolicy?: string;
        rebuild: string[];
        revocation: string[];
        provenance?: string;
        output: string;
      },
    ) => {
      const { id, identity } = await readIdentityFiles(options.identity, options.generation);
      const release = readEnvelopeFile(file);
      const { hash } = await readStatement("release", release);
      const logged =
        options.log === undefined
          ? undefined
          : await loggedOf(options.log, options.logPolicy, identity, id, hash);
      const document = writeBundle({
        identity: readBounded(options.identity),
        generations: options.generation.map(readEnvelopeFile),
        release,
        rebuilds: [
          ...options.rebuild.map(readEnvelopeFile),
          ...(logged?.rebuilds ?? []).map(({ envelope }) => envelope),
        ],
        revocations: options.revocation.map(readEnvelopeFile),
        manifest: readBounded(manifestPath(options.image)),
        ...(options.provenance !== undefined && { provenance: readProvenanceFile(options.provenance) }),
        ...(logged !== undefined && { proof: logged.proof }),
      });
      readBundle(document);
      writeNewFile(options.output, `${JSON.stringify(document)}\n`);
    },
  );

/** What a log says of a release: the proof that it is there, its rebuilds, and what must not go back. */
async function loggedOf(
  place: string,
  policyFile: string | undefined,
  { document }: Identity,
  app: string,
  hash: string,
): Promise<{ proof: LogProof; rebuilds: Statement<"rebuild">[]; floor: Floor }> {
  const text = policyFile === undefined ? document.log?.policy : readTextFile(policyFile);
  if (text === undefined) throw new UsageError("the identity names no log", "--log-policy FILE");
  const { followLog, proveRelease } = await import("@caisson/log");
  const source = await openTransparencyLog(place);
  const following = await followLog(source, readTrustPolicy(text), {
    now: Date.now(),
    wanted: new Set([app]),
  });
  const { rebuilds = [], floor = emptyFloor } = following.applications.get(app) ?? {};
  return {
    proof: await proveRelease(source, following, app, hash),
    rebuilds: rebuilds.filter(({ predicate }) => predicate.release === hash),
    floor,
  };
}

const list = new Command("list")
  .description("the releases of an application that a log has")
  .argument("<APP>", "its id")
  .requiredOption("--log <LOG>", "the log's address, or its directory")
  .requiredOption("--log-policy <FILE>", "whom to believe of it")
  .option("--json", "one JSON document")
  .action(async (app: string, options: { log: string; logPolicy: string; json?: boolean }) => {
    const { followLog } = await import("@caisson/log");
    const policy = readTrustPolicy(readTextFile(options.logPolicy));
    const wanted = new Set([app]);
    const following = await followLog(await openTransparencyLog(options.log), policy, {
      now: Date.now(),
      wanted,
    });
    const found = following.applications.get(app);
    if (found === undefined) throw new ReleaseError("log/proof", `the log has nothing of application ${app}`);
    const { releases, floor } = found;
    const rows = [...releases].map(([release, hash]) => ({
      release,
      hash,
      runs: release >= floor.minimum && !floor.releases.has(release),
    }));
    const text = rows.map(
      ({ release, hash, runs }) => `${release}  ${hash}${runs ? "" : "  refused by now"}`,
    );
    answer(options.json, rows, text.join("\n"));
  });

const show = new Command("show")
  .description("say in words what is in a release, a revocation or a next generation")
  .argument("<FILE>", "the envelope")
  .action(async (file: string) => {
    process.stdout.write(`${(await inWords(readEnvelopeFile(file))).join("\n")}\n`);
  });

export const command = new Command("caisson release")
  .description(
    "Which image an application may run, signed by its owners. Everything here works offline (docs/releases.md).",
  )
  .addCommand(prepare)
  .addCommand(sign)
  .addCommand(verify)
  .addCommand(show)
  .addCommand(revoke)
  .addCommand(publish)
  .addCommand(bundle)
  .addCommand(list);
