// SPDX-License-Identifier: Apache-2.0
/** `caisson kms serve`: runs the key management service. */
import type { Kms, KmsOptions, LogToFollow } from "@caisson/kms";
import { limits } from "@caisson/kms/limits";
import { Command, Option } from "commander";
import { parseSet, type SourceOptions } from "../collateral-source.ts";
import { UsageError } from "../failure.ts";
import { type Listen, listenOption } from "../listen-option.ts";
import { whole } from "../number-options.ts";
import { readTextFile } from "../passphrase-file.ts";
import { provenanceJudge } from "../provenance.ts";
import { openTransparencyLog } from "../transparency-log.ts";
import { answer } from "../views/answer.ts";
import { keepRoom } from "./heap.ts";
import { readHead } from "./release-log.ts";
import { appOf, each, kmsUrl } from "./values.ts";

/**
 * A file that decides who gets keys. Where those are real, only this user and root can have written it. Throws
 * KmsError, UsageError.
 */
async function readDeciding(path: string, development: boolean): Promise<string> {
  if (development) return readTextFile(path);
  const { readClosed } = await import("@caisson/kms");
  return readClosed(path, { code: "policy/permissions", parents: true }).toString("utf8");
}

/** The log that a KMS follows. Throws UsageError where the one option is given without the other. */
async function logToFollow(
  place: string,
  policy: string | undefined,
  development: boolean,
): Promise<LogToFollow> {
  if (policy === undefined) throw new UsageError("a log is followed by a policy", "--log-policy FILE");
  const { readTrustPolicy } = await import("@caisson/releases");
  return {
    source: await openTransparencyLog(place),
    policy: readTrustPolicy(await readDeciding(policy, development)),
  };
}

interface ServeOptions {
  data: string;
  policyDir?: string;
  operators?: string;
  ownApp?: string;
  listen: Listen;
  database: string[];
  peer: string[];
  head?: string;
  collateral?: string;
  collateralSource?: string;
  collateralUpdate?: SourceOptions["update"];
  ratePerAddress: number;
  rate: number;
  log?: string;
  logPolicy?: string;
  development?: boolean;
  json?: boolean;
}

/** What the options name, read. Throws UsageError, and KmsError of files that others could have written. */
async function kmsOptions(options: ServeOptions): Promise<KmsOptions> {
  if (options.collateralUpdate !== undefined && options.collateralSource === undefined) {
    throw new UsageError("--collateral-update names a set of a source", "--collateral-source pcs");
  }
  if (options.logPolicy !== undefined && options.log === undefined) {
    throw new UsageError("--log-policy says whom to believe of a log", "--log URL");
  }
  const { development = false } = options;
  const { readOperators } = await import("@caisson/kms");
  const { checkSource } = await import("@caisson/client/collateral");
  return {
    data: options.data,
    ...(options.policyDir !== undefined && { policies: options.policyDir }),
    ...(options.operators !== undefined && {
      operators: readOperators(options.operators, await readDeciding(options.operators, development)),
    }),
    databases: options.database,
    provenance: provenanceJudge,
    peers: options.peer,
    ...(options.head !== undefined && { contains: { from: options.head, ...readHead(options.head) } }),
    ...(options.ownApp !== undefined && { ownApp: options.ownApp }),
    ...options.listen,
    development,
    perAddress: { perSecond: options.ratePerAddress, burst: 8 * options.ratePerAddress },
    common: { perSecond: options.rate, burst: 2 * options.rate },
    ...(options.collateral !== undefined && { collateral: options.collateral }),
    ...(options.collateralSource !== undefined && {
      collateralSource: {
        from: checkSource(options.collateralSource),
        ...(options.collateralUpdate !== undefined && { update: options.collateralUpdate }),
      },
    }),
    ...(options.log !== undefined && {
      follow: await logToFollow(options.log, options.logPolicy, development),
    }),
    log: (line) => process.stderr.write(`${line}\n`),
  };
}

export const serveCommand = new Command("serve")
  .description(
    "release keys to guests whose evidence a policy accepts; log lines go to stderr; SIGHUP reads policies and" +
      " collateral again, SIGTERM ends it",
  )
  .requiredOption("--data <DIR>", "root secret (caisson kms init) and release log")
  .option(
    "--policy-dir <DIR>",
    "policy files (*.yaml, *.json), and manifests/ with the images' manifests; without it, what operators signed",
  )
  .option("--own-app <HEX>", "the application that this KMS's replicas are, which get its root secret", appOf)
  .option("--operators <FILE>", "the first operators' keys, where this KMS has none: { keys, threshold }")
  .addOption(listenOption(7700))
  .option(
    "--database <URL>",
    "PostgreSQL (postgresql://USER@HOST/NAME) for log and rows; several times for the servers of a cluster",
    each(),
    [],
  )
  .option(
    "--peer <URL>",
    "another replica, or what leads to any: its log's head is looked for in this one's; several times",
    each(kmsUrl),
    [],
  )
  .option("--head <FILE>", "a head kept from earlier (GET /v1/log/head), which the log must contain")
  .option("--collateral <DIR>", "Intel's collateral (*.json), preferred to what guests bring")
  .addOption(
    new Option(
      "--collateral-source <source>",
      "instead: whom to ask for it, pcs or the address of a PCCS or mirror; renewed before it expires",
    ).conflicts("collateral"),
  )
  .option("--collateral-update <set>", "Intel's set: standard, early, or a tcbEvaluationDataNumber", parseSet)
  .option(
    "--rate-per-address <N>",
    "requests a second from one address; a guest's boot needs two",
    whole(1, 999_999),
    limits.perAddress.perSecond,
  )
  .option("--rate <N>", "requests a second from all together", whole(1, 999_999), limits.common.perSecond)
  .option("--log <URL>", "the transparency log of releases that is followed (caisson log)")
  .option("--log-policy <FILE>", "a tlog-policy: whom to believe of that log")
  .option("--development", "allow policies that accept the emulated platform")
  .option("--json", "print the address and the identity as one JSON document")
  .action(async (options: ServeOptions) => {
    // From here on, because the signal would end a process that is still starting: it is a reload as soon as it can be.
    let kms: Kms | undefined;
    let asked = false;
    process.on("SIGHUP", () => {
      asked = true;
      void kms?.reload();
    });
    const service = await kmsOptions(options);
    const { startKms } = await import("@caisson/kms");
    kms = await startKms(service);
    keepRoom();
    const { url, identityKey } = kms;
    answer(options.json, { url, identityKey }, `KMS ${identityKey}\nserves ${url}`);
    if (asked) void kms.reload();
    await new Promise<void>((resolve) => {
      process.once("SIGTERM", resolve);
      process.once("SIGINT", resolve);
    });
    await kms.close();
  });
