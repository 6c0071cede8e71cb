// SPDX-License-Identifier: Apache-2.0
/** `caisson kms log …`: checks and shows the release log, and has witnesses cosign it. */
import { statSync } from "node:fs";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { whole } from "../number-options.ts";
import { readTextFile } from "../passphrase-file.ts";
import { readWitness } from "../transparency-log.ts";
import { answer, jsonText } from "../views/answer.ts";
import { renderEntry, type ShownEntry } from "../views/release-log-view.ts";
import { appOf, keyOf } from "./values.ts";

/** The head that `GET /v1/log/head` gave. */
export function readHead(path: string): { sequence: number; hash: string } {
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
      process.stdout.write(options.json === true ? jsonText(document) : note);
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
      answer(options.json, report, text.join("\n"));
    },
  );

const showLog = new Command("show")
  .description("who got keys and who did not, entry by entry, once the chain and the signed head are checked")
  .argument("[FILE]", "release-log.sqlite")
  .option("--database <URL>", "the log in PostgreSQL instead")
  .option("--app <HEX>", "only this application's entries", appOf)
  .option("--last <N>", "only the newest N", whole(1, 999_999))
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
      const lines = entries.map((entry) => renderEntry(entry, process.stdout.columns));
      const text = [...lines, `${lines.length} of ${report.head.sequence} entries`].join("\n");
      answer(options.json, { identity: report.identity, head: report.head, entries }, text);
    },
  );

export const logCommand = new Command("log")
  .description("the release log")
  .addCommand(verifyLog)
  .addCommand(showLog)
  .addCommand(checkpoint);
