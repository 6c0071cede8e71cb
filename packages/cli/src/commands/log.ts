// SPDX-License-Identifier: Apache-2.0
/** `caisson log …`: keep a transparency log of what application owners sign, witness others' logs, follow one. */
import { existsSync, readFileSync } from "node:fs";
import type { Following } from "@caisson/log";
import type { Checkpoint, NoteKey, TrustPolicy } from "@caisson/releases";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { type Listen, listenOption } from "../listen-option.ts";
import { readTextFile } from "../passphrase-file.ts";
import { openTransparencyLog, readWitness } from "../transparency-log.ts";
import { answer } from "../views/answer.ts";

const untilSignal = (): Promise<void> =>
  new Promise((resolve) => {
    process.once("SIGTERM", () => resolve()).once("SIGINT", () => resolve());
  });

const key = new Command("key")
  .description("make a key that signs checkpoints, in a new file, and print its verifier key for policies")
  .argument(
    "<NAME>",
    "the log's origin, or the witness's name: a host name and path, as its operator has them",
  )
  .requiredOption("--output <FILE>", "the new file")
  .option("--witness", "the key of a witness, not of a log")
  .action(async (name: string, options: { output: string; witness?: boolean }) => {
    const { noteSigningKey } = await import("@caisson/log");
    if (existsSync(options.output))
      throw new UsageError(`${options.output} is there already`, "another file");
    const made = await noteSigningKey(options.output, {
      name,
      kind: options.witness === true ? "cosignature" : "note",
    });
    process.stdout.write(`${made.verifier}\n`);
  });

const serve = new Command("serve")
  .description("serve a log, take what owners sign, and have witnesses see it; SIGTERM ends it")
  .requiredOption("--data <DIR>", "the log's files; a new log begins where there is none")
  .requiredOption("--key <FILE>", "from caisson log key")
  .addOption(listenOption(7710))
  .option("--witness <URL=KEY...>", "who is asked to cosign each checkpoint", [])
  .option("--json", "print address and key as one JSON document")
  .action(
    async (options: { data: string; key: string; listen: Listen; witness: string[]; json?: boolean }) => {
      const { LogWriter, noteSigningKey, serveLog, writerLock } = await import("@caisson/log");
      const own = await noteSigningKey(options.key);
      const unlock = await writerLock(options.data);
      const witnesses = await Promise.all(options.witness.map(readWitness));
      const writer = await LogWriter.open(options.data, own, witnesses);
      const server = await serveLog(writer, options.data, options.listen.host, options.listen.port);
      const { url } = server;
      answer(options.json, { url, key: own.verifier }, `log ${own.verifier}\nserves ${url}`);
      // Readers want a view that is younger than a day, also while nobody adds anything.
      const again = setInterval(() => void writer.refresh(), 600_000);
      await untilSignal();
      clearInterval(again);
      await server.close();
      await writer.close();
      await unlock();
    },
  );

const witness = new Command("witness")
  .description("cosign the checkpoints of logs that only grow (c2sp.org/tlog-witness); SIGTERM ends it")
  .requiredOption("--data <DIR>", "what was seen of each log")
  .requiredOption("--key <FILE>", "from caisson log key --witness")
  .requiredOption("--log <KEY...>", "verifier keys of the logs")
  .addOption(listenOption(7711))
  .option("--json", "print address and key as one JSON document")
  .action(async (options: { data: string; key: string; log: string[]; listen: Listen; json?: boolean }) => {
    const { noteSigningKey, serveWitness, Witness, writerLock } = await import("@caisson/log");
    const { readNoteKey } = await import("@caisson/releases");
    const own = await noteSigningKey(options.key);
    const unlock = await writerLock(options.data);
    const logs: NoteKey[] = await Promise.all(options.log.map(readNoteKey));
    const { host, port } = options.listen;
    const server = await serveWitness(new Witness(options.data, own, logs), host, port);
    const { url } = server;
    answer(options.json, { url, key: own.verifier }, `witness ${own.verifier}\nserves ${url}`);
    await untilSignal();
    await server.close();
    await unlock();
  });

/** What a log says of each application, in the order in which they came. */
function applicationsOf({ applications }: Following): object[] {
  return [...applications.values()].map(({ id, identity, newest, releases, floor, secrets, rebuilds }) => ({
    app: id,
    name: identity.document.name,
    generation: identity.document.generation,
    releases: releases.size,
    newest: newest === undefined ? null : { release: newest.predicate.release, hash: newest.hash },
    minimum: floor.minimum,
    revoked: { releases: [...floor.releases], generations: [...floor.generations] },
    rebuilds: rebuilds.length,
    secrets: [...secrets].map(([kms, set]) => ({ kms, ...set })),
  }));
}

const withPolicy = (command: Command): Command =>
  command
    .argument("<LOG>", "its address, or the directory of its files")
    .requiredOption("--policy <FILE>", "a tlog-policy: which log is believed, and who has to have seen it")
    .option("--json", "one JSON document");

/** What a file of `--state` keeps: of earlier versions the checkpoint alone. */
async function keptOf(
  path: string,
  policy: TrustPolicy,
): Promise<{ before?: Following; known?: Checkpoint }> {
  if (!existsSync(path)) return {};
  const { readCheckpoint, readNote } = await import("@caisson/releases");
  const { LogServiceError, readFollowing } = await import("@caisson/log");
  const kept = readFileSync(path, "utf8");
  if (!kept.startsWith("{")) return { known: readCheckpoint(readNote(kept).text) };
  try {
    return { before: await readFollowing(JSON.parse(kept), policy, Date.now()) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new LogServiceError("log-service/damaged", `${path} is not JSON`, {
      fix: "another file, which is new",
    });
  }
}

const follow = withPolicy(new Command("follow"))
  .description(
    "read a log to its end and say what it says of each application: exit code 0, or 10 for a log that cheats",
  )
  .option("--app <ID...>", "only these applications")
  .option(
    "--state <FILE>",
    "what was seen before, and now what is newer: a log must go on from it, and only what came since is read",
  )
  .action(
    async (place: string, options: { policy: string; app?: string[]; state?: string; json?: boolean }) => {
      const { followLog, replaceFile, writeFollowing } = await import("@caisson/log");
      const { readTrustPolicy } = await import("@caisson/releases");
      const policy = readTrustPolicy(readTextFile(options.policy));
      const following = await followLog(await openTransparencyLog(place), policy, {
        now: Date.now(),
        ...(options.app !== undefined && { wanted: new Set(options.app) }),
        ...(options.state !== undefined && (await keptOf(options.state, policy))),
      });
      if (options.state !== undefined) {
        replaceFile(options.state, `${JSON.stringify(writeFollowing(following))}\n`);
      }
      const { checkpoint, seen: at, passedOver } = following;
      const applications = applicationsOf(following);
      const document = {
        origin: checkpoint.origin,
        entries: checkpoint.size,
        root: checkpoint.root.toHex(),
        seen: at === undefined ? null : new Date(at).toISOString(),
        applications,
        passedOver,
      };
      const rows = (
        applications as { app: string; name: string; newest: { release: number } | null; minimum: number }[]
      ).map(
        ({ app, name, newest, minimum }) =>
          `  ${app}  ${name}: ${newest === null ? "no release" : `release ${newest.release}, minimum ${minimum}`}`,
      );
      const text = [
        `${checkpoint.origin}: ${checkpoint.size} entries${at === undefined ? "" : `, seen ${new Date(at).toISOString()}`}`,
        ...rows,
        ...(passedOver.length === 0
          ? []
          : [`  ${passedOver.length} documents that do not follow what was there`]),
      ];
      answer(options.json, document, text.join("\n"));
    },
  );

const verify = withPolicy(new Command("verify"))
  .description("check every file of a log: entries, tiles, envelopes, checkpoint: exit code 0 whole, 10 not")
  .action(async (place: string, options: { policy: string; json?: boolean }) => {
    const { verifyLog } = await import("@caisson/log");
    const { readTrustPolicy } = await import("@caisson/releases");
    const policy = readTrustPolicy(readTextFile(options.policy));
    const { checkpoint, applications, passedOver } = await verifyLog(
      await openTransparencyLog(place),
      policy,
      Date.now(),
    );
    const { origin, size } = checkpoint;
    const document = {
      origin,
      entries: size,
      root: checkpoint.root.toHex(),
      applications: applications.size,
      passedOver,
    };
    answer(options.json, document, `whole: ${size} entries of ${applications.size} applications   ${origin}`);
  });

export const command = new Command("caisson log")
  .description("Transparency logs of what application owners sign (docs/releases.md).")
  .addCommand(key)
  .addCommand(serve)
  .addCommand(witness)
  .addCommand(follow)
  .addCommand(verify);
