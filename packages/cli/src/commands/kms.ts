// SPDX-License-Identifier: Apache-2.0
/** `caisson kms …`: run the key management service, look after its root secret, check its release log. */
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Kms, LogToFollow } from "@caisson/kms";
import { Command, InvalidArgumentError, Option } from "commander";
import { parseSet, type SourceOptions } from "../collateral-source.ts";
import { UsageError } from "../failure.ts";
import { giveCommand, joinCommand, verifyCommand } from "../kms/guest.ts";
import { requestCommand } from "../kms/operators.ts";
import { type RestoreOptions, restoredBefore, restoreFrom } from "../kms/restores.ts";
import { rootCommand } from "../kms/root.ts";
import { sharesCommand } from "../kms/shares.ts";
import { appOf, each, keyOf, kmsUrl } from "../kms/values.ts";
import { volumeCommand } from "../kms/volume.ts";
import { type Listen, listenOption } from "../listen-option.ts";
import { readPassphrase, readTextFile } from "../passphrase-file.ts";
import { provenanceJudge } from "../provenance.ts";
import { printable } from "../views/printable.ts";
import { openReleaseLog, readWitness } from "./log.ts";

function parseRate(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError("expected a whole number above 0");
  return Number(text);
}

/** The head that `GET /v1/log/head` gave. */
function readHead(path: string): { sequence: number; hash: string } {
  const text = readTextFile(path);
  try {
    const { sequence, hash } = JSON.parse(text) as Record<string, unknown>;
    if (Number.isSafeInteger(sequence) && typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash)) {
      return { sequence: sequence as number, hash };
    }
  } catch {
    // Not JSON: the same answer as for other JSON.
  }
  throw new UsageError(`${path} holds no head of a release log`, "save the answer of GET /v1/log/head");
}

/** An entry of the release log. `reason` is the reference that the registers matched, or the code of the denial. */
interface ShownEntry {
  sequence: number;
  time: string;
  outcome: "released" | "denied" | "changed";
  app: string;
  instance: string;
  reason: string;
  /** SHA-256 of MRTD and RTMR0–3, and of the policy file. */
  registers: string;
  policy: string;
}

const print = (json: boolean | undefined, document: object, text: string) =>
  process.stdout.write(json === true ? `${JSON.stringify(document, null, 2)}\n` : `${text}\n`);

const init = new Command("init")
  .description("make the root secret of a new KMS, and print the identity that follows from it")
  .requiredOption("--data <DIR>", "where root secret and release log will lie; no secret may be there")
  .option("--json", "one JSON document")
  .action(async (options: { data: string; json?: boolean }) => {
    const { createRootSecret, kmsIdentity } = await import("@caisson/kms");
    createRootSecret(options.data);
    const identityKey = kmsIdentity(options.data);
    print(options.json, { identityKey }, identityKey);
  });

/** A file that decides who gets keys. Where those are real, only this user and root can have written it. Throws KmsError, UsageError. */
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
    source: await openReleaseLog(place),
    policy: readTrustPolicy(await readDeciding(policy, development)),
  };
}

const serve = new Command("serve")
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
    parseRate,
    5,
  )
  .option("--log <URL>", "the transparency log of releases that is followed (caisson log)")
  .option("--log-policy <FILE>", "a tlog-policy: whom to believe of that log")
  .option("--development", "allow policies that accept the emulated platform")
  .option("--json", "print the address and the identity as one JSON document")
  .action(
    async (options: {
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
      log?: string;
      logPolicy?: string;
      development?: boolean;
      json?: boolean;
    }) => {
      if (options.collateralUpdate !== undefined && options.collateralSource === undefined) {
        throw new UsageError("--collateral-update names a set of a source", "--collateral-source pcs");
      }
      if (options.logPolicy !== undefined && options.log === undefined) {
        throw new UsageError("--log-policy says whom to believe of a log", "--log URL");
      }
      // From here on, because the signal would end a process that is still starting: it is a reload as soon as it can be.
      let kms: Kms | undefined;
      let asked = false;
      process.on("SIGHUP", () => {
        asked = true;
        void kms?.reload();
      });
      const { development = false } = options;
      const { readOperators, startKms } = await import("@caisson/kms");
      const { checkSource } = await import("@caisson/client/collateral");
      kms = await startKms({
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
      });
      const { url, identityKey } = kms;
      print(options.json, { url, identityKey }, `KMS ${identityKey}\nserves ${url}`);
      if (asked) void kms.reload();
      await new Promise<void>((resolve) => {
        process.once("SIGTERM", resolve);
        process.once("SIGINT", resolve);
      });
      await kms.close();
    },
  );

const identity = new Command("identity")
  .description("print the identity key, which images pin and guests measure")
  .requiredOption("--data <DIR>", "root secret and release log")
  .option("--json", "one JSON document")
  .action(async (options: { data: string; json?: boolean }) => {
    const { kmsIdentity } = await import("@caisson/kms");
    const identityKey = kmsIdentity(options.data);
    print(options.json, { identityKey }, identityKey);
  });

interface LogPlace {
  database?: string;
}

async function openLog(file: string | undefined, { database }: LogPlace) {
  const { postgresql, readOnlySqlite } = await import("@caisson/kms");
  if ((file === undefined) === (database === undefined)) {
    throw new UsageError("a release log is a file or in a database", "FILE or --database URL");
  }
  if (file !== undefined && statSync(file, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new UsageError(`there is no file ${file}`, "release-log.sqlite of the KMS's data directory");
  }
  return file === undefined ? postgresql([database!]) : readOnlySqlite(file);
}

const checkpoint = new Command("checkpoint")
  .description(
    "sign a checkpoint of the release log and have witnesses cosign it: print what shows later that nothing was cut off",
  )
  .argument("[FILE]", "release-log.sqlite")
  .option("--database <URL>", "the log in PostgreSQL instead")
  .requiredOption("--data <DIR>", "the root secret, which the signing key follows from")
  .option("--witness <URL=KEY...>", "who is asked (caisson log witness)", [])
  .option("--json", "one JSON document")
  .action(
    async (
      file: string | undefined,
      options: LogPlace & { data: string; witness: string[]; json?: boolean },
    ) => {
      const { checkpointKey, openRootSecret, storeKeys, witnessReleaseLog } = await import("@caisson/kms");
      const { writeNoteKey } = await import("@caisson/releases");
      const { identity } = storeKeys(openRootSecret(options.data));
      const witnesses = await Promise.all(options.witness.map(readWitness));
      const {
        checkpoint: tree,
        note,
        cosigned,
      } = await witnessReleaseLog(await openLog(file, options), identity, witnesses);
      const key = await writeNoteKey(checkpointKey(identity.publicKey));
      process.stderr.write(
        `${tree.size} entries, cosigned by ${cosigned} of ${witnesses.length}\nkey  ${key}\n`,
      );
      const document = { size: tree.size, root: tree.root.toHex(), key, cosigned, note };
      process.stdout.write(options.json === true ? `${JSON.stringify(document, null, 2)}\n` : note);
      if (cosigned < witnesses.length) process.exitCode = 75;
    },
  );

const verifyLog = new Command("verify")
  .description("recompute the hash chain and check the signed head")
  .argument("[FILE]", "release-log.sqlite")
  .option("--database <URL>", "the log in PostgreSQL instead")
  .option("--identity <HEX>", "the KMS that must have written it", keyOf)
  .option("--head <FILE>", "a head kept from earlier (GET /v1/log/head), which the log must contain")
  .option(
    "--checkpoint <FILE>",
    "a checkpoint that was witnessed (kms log checkpoint), which it must go on from",
  )
  .option("--log-policy <FILE>", "a tlog-policy: the KMS's key, and which witnesses have to have cosigned it")
  .option("--json", "one JSON document")
  .action(
    async (
      file: string | undefined,
      options: LogPlace & {
        identity?: string;
        head?: string;
        checkpoint?: string;
        logPolicy?: string;
        json?: boolean;
      },
    ) => {
      const { checkWitnessed, verifyReleaseLog } = await import("@caisson/kms");
      if (options.checkpoint !== undefined) {
        if (options.logPolicy === undefined || options.identity === undefined) {
          throw new UsageError(
            "a checkpoint is of a KMS, and believed by a policy",
            "--identity HEX --log-policy FILE",
          );
        }
        const { readTrustPolicy } = await import("@caisson/releases");
        const policy = readTrustPolicy(readTextFile(options.logPolicy));
        const identityKey = Uint8Array.fromHex(options.identity);
        const note = readTextFile(options.checkpoint);
        await checkWitnessed(await openLog(file, options), identityKey, note, policy, Date.now());
      }
      const report = await verifyReleaseLog(await openLog(file, options), {
        ...(options.identity !== undefined && { identity: options.identity }),
        ...(options.head !== undefined && { witness: readHead(options.head) }),
      });
      const { head, released, denied, changed } = report;
      const text = [
        `whole: ${head.sequence} entries, ${released} released, ${denied} denied${changed > 0 ? `, ${changed} changes` : ""}`,
        `  written by  ${report.identity}`,
        `  head        ${head.hash}`,
      ];
      print(options.json, report, text.join("\n"));
    },
  );

const showLog = new Command("show")
  .description("who got keys and who did not, entry by entry, once the chain and the signed head are checked")
  .argument("[FILE]", "release-log.sqlite")
  .option("--database <URL>", "the log in PostgreSQL instead")
  .option("--app <HEX>", "only this application's entries", appOf)
  .option("--last <N>", "only the newest N", parseRate)
  .option("--json", "one JSON document")
  .action(
    async (file: string | undefined, options: LogPlace & { app?: string; last?: number; json?: boolean }) => {
      const { verifyReleaseLog } = await import("@caisson/kms");
      const { app } = options;
      let entries: ShownEntry[] = [];
      const report = await verifyReleaseLog(await openLog(file, options), {}, (sequence, entry) => {
        if (app !== undefined && entry.app.toHex() !== app) return;
        entries.push({
          sequence,
          time: new Date(entry.time).toISOString(),
          outcome: entry.outcome,
          app: entry.app.toHex(),
          instance: entry.instance.toHex(),
          reason: entry.reason,
          registers: entry.registers.toHex(),
          policy: entry.policy.toHex(),
        });
        if (options.last !== undefined && entries.length > 2 * options.last) {
          entries = entries.slice(-options.last);
        }
      });
      if (options.last !== undefined) entries = entries.slice(-options.last);
      const lines = entries.map(({ time, outcome, app: of, instance, reason }) =>
        [
          time,
          outcome.padEnd(8),
          ...(of === "" ? [] : [`app ${of}`]),
          ...(instance === "" ? [] : [`instance ${instance}`]),
          printable(reason),
        ].join("  "),
      );
      const text = [...lines, `${lines.length} of ${report.head.sequence} entries`].join("\n");
      print(options.json, { identity: report.identity, head: report.head, entries }, text);
    },
  );

const backup = new Command("backup")
  .description("write the root secret, encrypted under a passphrase, to a new file")
  .requiredOption("--data <DIR>", "root secret and release log")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .requiredOption("--output <FILE>", "the new file")
  .action(async (options: { data: string; passphraseFile: string; output: string }) => {
    const { encryptBackup, openRootSecret } = await import("@caisson/kms");
    const text = encryptBackup(openRootSecret(options.data), readPassphrase(options.passphraseFile));
    try {
      writeFileSync(options.output, text, { flag: "wx", mode: 0o600, flush: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      throw new UsageError(`${options.output} is there already`, "name a file that does not exist");
    }
    process.stderr.write(
      "The backup is useless without its passphrase, and gives every key with it.\nTest it.\n",
    );
  });

const restore = new Command("restore")
  .description(
    "put the root secret of a backup into a data directory that has none; persistent volumes are suspect then",
  )
  .argument("<FILE>", "the backup")
  .requiredOption("--data <DIR>", "root secret and release log")
  .option("--database <URL>", "the log and volumes in PostgreSQL instead")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .addOption(restoredBefore())
  .action(async (file: string, options: RestoreOptions & { passphraseFile: string }) => {
    const { decryptBackup, kmsIdentity } = await import("@caisson/kms");
    const secret = decryptBackup(readTextFile(file), readPassphrase(options.passphraseFile));
    // What was anchored since the backup is not known here: an operator looks before a volume is opened.
    await restoreFrom(file, options, secret);
    process.stdout.write(`${kmsIdentity(options.data)}\n${join(options.data, "root-secret")}\n`);
  });

export const command = new Command("caisson kms")
  .description(
    "The key management service: releases keys to guests whose evidence a policy accepts (docs/key-release.md).",
  )
  .addCommand(init)
  .addCommand(serve)
  .addCommand(identity)
  .addCommand(
    new Command("log")
      .description("the release log")
      .addCommand(verifyLog)
      .addCommand(showLog)
      .addCommand(checkpoint),
  )
  .addCommand(requestCommand)
  .addCommand(sharesCommand.addCommand(giveCommand))
  .addCommand(rootCommand)
  .addCommand(verifyCommand)
  .addCommand(joinCommand)
  .addCommand(backup)
  .addCommand(restore)
  .addCommand(volumeCommand);
