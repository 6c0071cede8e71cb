// SPDX-License-Identifier: Apache-2.0
/** `caisson kms …`: run the key management service, look after its root secret, check its release log. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { giveCommand, joinCommand, verifyCommand } from "../kms/guest.ts";
import { requestCommand } from "../kms/operators.ts";
import { logCommand } from "../kms/release-log.ts";
import { type RestoreOptions, restoredBefore, restoreFrom } from "../kms/restores.ts";
import { rootCommand } from "../kms/root.ts";
import { serveCommand } from "../kms/serve.ts";
import { sharesCommand } from "../kms/shares.ts";
import { volumeCommand } from "../kms/volume.ts";
import { readPassphrase, readTextFile } from "../passphrase-file.ts";
import { answer } from "../views/answer.ts";

const init = new Command("init")
  .description("make the root secret of a new KMS, and print the identity that follows from it")
  .requiredOption("--data <DIR>", "where root secret and release log will lie; no secret may be there")
  .option("--json", "one JSON document")
  .action(async (options: { data: string; json?: boolean }) => {
    const { createRootSecret, kmsIdentity } = await import("@caisson/kms");
    createRootSecret(options.data);
    const identityKey = kmsIdentity(options.data);
    answer(options.json, { identityKey }, identityKey);
  });

const identity = new Command("identity")
  .description("print the identity key, which images pin and guests measure")
  .requiredOption("--data <DIR>", "root secret and release log")
  .option("--json", "one JSON document")
  .action(async (options: { data: string; json?: boolean }) => {
    const { kmsIdentity } = await import("@caisson/kms");
    const identityKey = kmsIdentity(options.data);
    answer(options.json, { identityKey }, identityKey);
  });

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
  .addCommand(serveCommand)
  .addCommand(identity)
  .addCommand(logCommand)
  .addCommand(requestCommand)
  .addCommand(sharesCommand.addCommand(giveCommand))
  .addCommand(rootCommand)
  .addCommand(verifyCommand)
  .addCommand(joinCommand)
  .addCommand(backup)
  .addCommand(restore)
  .addCommand(volumeCommand);
