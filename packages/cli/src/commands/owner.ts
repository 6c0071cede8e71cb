// SPDX-License-Identifier: Apache-2.0
/** `caisson owner …`: keys that sign identities, releases and revocations. */
import { Command, Option } from "commander";
import { keyText, newOwnerKey, readPublicKey } from "../owner-keys.ts";
import { readPassphrase } from "../passphrase-file.ts";
import { answer } from "../views/answer.ts";

const create = new Command("new")
  .description("make a key in a new file, encrypted under a passphrase, and print its public half")
  .argument("<FILE>", "the new file")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .addOption(new Option("--type <TYPE>", "kind of key").choices(["ed25519", "p256"]).default("ed25519"))
  .option("--json", "one JSON document")
  .action((file: string, options: { passphraseFile: string; type: "ed25519" | "p256"; json?: boolean }) => {
    const publicKey = newOwnerKey(file, options.type, readPassphrase(options.passphraseFile));
    answer(options.json, publicKey, keyText(publicKey));
  });

const show = new Command("show")
  .description("print the public half of a key")
  .argument("<FILE>", "a key's file")
  .option("--json", "one JSON document")
  .action((file: string, options: { json?: boolean }) => {
    const publicKey = readPublicKey(file);
    answer(options.json, publicKey, keyText(publicKey));
  });

export const command = new Command("caisson owner")
  .description("Keys that sign identities, releases and revocations (docs/releases.md).")
  .addCommand(create)
  .addCommand(show);
