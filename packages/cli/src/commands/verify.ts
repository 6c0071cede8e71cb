// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson verify EVIDENCE`: is it genuine, and is it what the policy wants? Exit code 0 accepted, 10 rejected, 20 nobody
 * can tell (collateral that does not fit, a form that is not judged here), 30 malformed input. Without a policy only the
 * first question is asked, and the answer says so.
 */

import { styleText } from "node:util";
import { observeChannel } from "@caisson/client";
import { fetchEvidence, freshReportData } from "@caisson/machine/relying-party";
import {
  type AnyEvidence,
  type ChannelExpectation,
  type ExpectedReportData,
  expectNonce,
  intelRoot,
  isQuote,
  type Report,
  readChannelEvidence,
  VerifyError,
  verifyChannel,
  verifyEvidence,
  verifyGenuine,
} from "@caisson/verify";
import { type Description, describeEvidence } from "@caisson/verify/describe";
import { readEvidence } from "@caisson/verify/every-form";
import { releaseJudge } from "@caisson/verify/releases";
import { toBase64, toHex } from "@caisson/vocabulary/bytes";
import { sessionEntry } from "@caisson/vocabulary/channel";
import { provesHardware } from "@caisson/vocabulary/platforms";
import { Command, Option } from "commander";
import { type SourceOptions, withSource } from "../collateral-source.ts";
import { showConformance } from "../conformance.ts";
import { verdictCodes } from "../exit-codes.ts";
import { UsageError } from "../failure.ts";
import { filesOf, findCollateral, type JudgedBy, judgementOf, knownReleases } from "../judged-by.ts";
import {
  bytesOf,
  evidenceOf,
  parseTime,
  readBounded,
  readPolicyFile,
  readReferenceFiles,
} from "../judgement-files.ts";
import { writeFile } from "../output-file.ts";
import { provenanceJudge } from "../provenance.ts";
import { jsonText } from "../views/answer.ts";
import { fold } from "../views/fold.ts";
import { renderDescription, renderReport } from "../views/report-view.ts";

interface Options extends JudgedBy, SourceOptions {
  from?: string;
  bind?: "key" | "session";
  save?: string;
  eventLog?: string;
  nonce?: string;
  reportData?: string;
  at?: string;
  json?: boolean;
  conformance?: string;
}

export const command = withSource(new Command("caisson verify"), "--collateral-source")
  .description(
    "Judges evidence: is it genuine, and is it what a policy wants? Exit code 0 accepted, 10 rejected, 20 cannot tell, 30 malformed.",
  )
  .argument(
    "[evidence]",
    "a caisson/evidence/v1 document, dstack's, CoCo's, Azure's, Nitro's or Tinfoil's evidence, a quote or a SEV-SNP report (binary, hex, base64, JSON, protobuf); - is stdin",
  )
  .option(
    "--from <url>",
    "ask a running application for fresh evidence instead of reading a file; https: of the very connection, by its front",
  )
  .option("--save <file>", "with --from: keep the evidence as it came, whatever the verdict")
  .option("--policy <file>", "what is acceptable (YAML or JSON); without it only: is it genuine?")
  .option(
    "--image <file...>",
    "reference values: manifests, or files of caisson measure --json; an image directory that `caisson up` ran from" +
      " also gives policy and collateral where none are named",
    [],
  )
  .option("--kit <dir>", "policy, reference values and collateral from a kit that caisson publish wrote")
  .addOption(
    new Option(
      "--bind <to>",
      "what the evidence of an https address has to name: the key of its connections, or this very TLS session besides",
    ).choices(["key", "session"]),
  )
  .option(
    "--collateral <file>",
    "Intel's (PCCS-style JSON) or AMD's collateral, where the evidence carries none; fetch: from --collateral-source",
  )
  .option("--event-log <file>", "the boot log (CCEL), where the evidence carries none")
  .option(
    "--nonce <hex>",
    "the nonce that the report data must bind: hashed under caisson/app/v1 where the evidence says so, of a quote by itself" +
      " the report data, zeros behind it",
  )
  .option("--report-data <hex>", "what the report data must be, byte for byte (zeros behind it)")
  .option(
    "--revocation <file...>",
    "revocations of its releases that are known here, for a policy with app.identity",
    [],
  )
  .option("--at <time>", "judge as of this time (ISO 8601); now when left out")
  .option(
    "--conformance <dir>",
    "instead: run conformance cases (test/conformance), and say which are answered otherwise",
  )
  .option("--json", "the report as one JSON document")
  .action(async (path: string | undefined, given: Options) => {
    if (given.conformance !== undefined) return showConformance(given.conformance, given.json === true);
    if ((path === undefined) === (given.from === undefined)) {
      throw new UsageError(
        "evidence comes from a file or from a running application",
        "EVIDENCE, or --from URL",
      );
    }
    if (given.save !== undefined && given.from === undefined) {
      throw new UsageError("--save keeps what --from got", "leave it out: the evidence is in a file already");
    }
    const options = filesOf(given);
    if (given.from !== undefined) {
      if (options.policy === undefined) {
        throw new UsageError(
          "a running application is judged by a policy",
          "add --kit DIRECTORY, --policy FILE, or --image DIRECTORY",
        );
      }
      if (/^https:/i.test(given.from)) return verifyConnection(given.from, options);
      if (given.bind !== undefined)
        throw new UsageError("--bind is about the connection to an https address", "leave it out");
      process.stderr.write(
        "this shows that such a machine runs, not that it is the one at this address: only an https address of a front says that\n",
      );
      const { bytes, nonce } = await fetchEvidence(given.from);
      if (given.save !== undefined) save(given.save, bytes, nonce);
      const evidence = readEvidence(bytes);
      const report = await judge(evidence, options, freshReportData(nonce));
      return show(report, evidence, options.json === true);
    }
    const bootLog = options.eventLog === undefined ? undefined : readBounded(options.eventLog);
    const bytes = readBounded(path!);
    const evidence = evidenceOf(bytes, bootLog);
    if (options.nonce !== undefined && options.policy !== undefined && isChannelEvidence(bytes)) {
      return verifySaved(bytes, evidence, options);
    }
    const expected = expectReportData(options, evidence);
    show(await judge(evidence, options, expected), evidence, options.json === true);
  });

/** Fresh evidence of a running machine, judged: of the very connection where the address is a front's. */
export async function judgeRunning(url: string, options: JudgedBy & SourceOptions): Promise<Report> {
  if (/^https:/i.test(url)) return (await judgeConnection(url, options)).report;
  const { bytes, nonce } = await fetchEvidence(url);
  return judge(readEvidence(bytes), options, freshReportData(nonce));
}

async function judgeConnection(
  url: string,
  options: JudgedBy & SourceOptions & Pick<Options, "bind" | "at" | "save">,
) {
  const { document, ...own } = await observeChannel(url, options.bind);
  // What the guest hashed with others: the nonce, with this session where it is bound.
  const entry = own.exporter === undefined ? own.nonce : sessionEntry(own.nonce, own.exporter);
  if (options.save !== undefined) save(options.save, document, entry);
  return { ...(await judgeChannel(document, own, options)), tlsKey: own.tlsKey };
}

async function judgeChannel(
  document: Uint8Array,
  own: ChannelExpectation,
  options: JudgedBy & SourceOptions & Pick<Options, "at">,
) {
  const now = parseTime(options.at);
  const { collateral, ...rest } = options;
  const judgement =
    collateral === "fetch"
      ? {
          ...(await judgementOf(rest, now)),
          ...(await findCollateral(readChannelEvidence(document).evidence, options, now)),
        }
      : await judgementOf(options, now);
  return verifyChannel(document, own, judgement);
}

/** What `--save` kept of an https address, with what it said that it binds: where TLS ended then is in no file. */
async function verifySaved(bytes: Uint8Array, evidence: AnyEvidence, options: Options): Promise<void> {
  // Of a session it is longer than any nonce.
  const nonce = bytesOf("--nonce", options.nonce!, 256);
  show((await judgeChannel(bytes, { nonce }, options)).report, evidence, options.json === true);
}

function isChannelEvidence(bytes: Uint8Array): boolean {
  try {
    return readChannelEvidence(bytes) !== undefined;
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return false;
  }
}

/** Judges the very connection over which the evidence came: where it ends is in the report. */
async function verifyConnection(url: string, options: Options): Promise<void> {
  const { report, keys, tlsKey } = await judgeConnection(url, options);
  const pin = `sha256//${toBase64(tlsKey)}`;
  const said =
    report.verdict === "accepted"
      ? `this connection ends in the guest; for one request by curl: curl -k --pinnedpubkey '${pin}' ${url}`
      : keys === undefined
        ? "nothing that is sent over this connection reaches a guest that is accepted"
        : "TLS ends before the guest; requests that are sealed to its key still reach it: caisson connect";
  const { json } = options;
  process.stdout.write(
    json === true
      ? jsonText({ ...report, channel: { tlsKey: toHex(tlsKey), pin, sealed: keys !== undefined } })
      : `${renderReport(report)}\n${said}\n`,
  );
  process.exitCode = verdictCodes[report.verdict];
}

/** Keeps evidence before it is read: what cannot be read is what somebody wants to look at. */
function save(path: string, bytes: Uint8Array, nonce: Uint8Array): void {
  writeFile(path, bytes);
  process.stderr.write(`saved ${path}; it binds --nonce ${toHex(nonce)}\n`);
}

/** Judges evidence, wherever it came from. */
async function judge(
  evidence: AnyEvidence,
  options: Options,
  expectedReportData: ExpectedReportData | undefined,
): Promise<Report> {
  const now = parseTime(options.at);
  // Its shape is the verifier's to judge: what it refuses is in the report.
  const collateral = await findCollateral(evidence, options, now);
  if (options.policy === undefined) {
    if (options.image.length > 0 || expectedReportData !== undefined) {
      throw new UsageError("--image, --nonce and --report-data are judged by a policy", "add --policy FILE");
    }
    if (isQuote(evidence) && !provesHardware[evidence.platform]) {
      throw new UsageError(
        "emulated evidence is genuine only under a root that a policy names",
        "add --policy FILE",
      );
    }
    return verifyGenuine(evidence, { now, trust: intelRoot, ...collateral });
  }
  const policy = readPolicyFile(options.policy);
  const references = readReferenceFiles(options.image);
  const expected = expectedReportData === undefined ? {} : { expectedReportData };
  const releases = releaseJudge(
    await knownReleases(policy, "release" in evidence ? evidence : {}, options.revocation),
    provenanceJudge,
  );
  return verifyEvidence(evidence, { policy, references, now, releases, ...collateral, ...expected });
}

/** A nonce is expected under the scheme for applications, never another one's; raw report data is the nonce itself. */
function expectReportData({ nonce, reportData: whole }: Options, evidence: AnyEvidence) {
  if (nonce !== undefined && whole !== undefined) {
    throw new UsageError("--nonce and --report-data both say what is bound", "give one of them");
  }
  if (whole !== undefined)
    return { scheme: "raw", fields: { data: bytesOf("--report-data", whole) } } as const;
  if (nonce === undefined) return undefined;
  return expectNonce(evidence, bytesOf("--nonce", nonce));
}

/** Without a policy the quote's fields are shown too: who asks whether it is genuine wants to see what it says. */
function show(report: Report, evidence: AnyEvidence, json: boolean): void {
  const fields = report.scope === "genuine" ? describe(evidence) : undefined;
  process.stdout.write(
    json
      ? jsonText({ ...report, ...(fields && { quote: fields }) })
      : [
          ...(fields?.warnings ?? []).map((text) => `${styleText("red", text)}\n`),
          fold(renderReport(report), process.stdout.columns),
          ...(fields === undefined ? [] : ["\n", renderDescription({ ...fields, warnings: [] })]),
        ].join(""),
  );
  process.exitCode = verdictCodes[report.verdict];
}

/** Undefined for what is not a quote at all, which the report says already. */
function describe(evidence: AnyEvidence): Description | undefined {
  try {
    return describeEvidence(evidence);
  } catch (error) {
    if (error instanceof VerifyError) return undefined;
    throw error;
  }
}
