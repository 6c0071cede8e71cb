// SPDX-License-Identifier: Apache-2.0
/** `caisson owner …`: keys that sign identities, releases and revocations. */
import { Command, Option } from "commander";
import { keyText, newOwnerKey, readPublicKey } from "../owner-keys.ts";
import { readPassphrase } from "../passphrase-file.ts";

const print = (json: boolean | undefined, publicKey: { type: string; key: string }, text: string) =>
  process.stdout.write(json === true ? `${JSON.stringify(publicKey, null, 2)}\n` : `${text}\n`);

const create = new Command("new")
  .description("make a key in a new file, encrypted under a passphrase, and print its public half")
  .argument("<FILE>", "the new file")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .addOption(new Option("--type <TYPE>", "kind of key").choices(["ed25519", "p256"]).default("ed25519"))
  .option("--json", "one JSON document")
  .action((file: string, options: { passphraseFile: string; type: "ed25519" | "p256"; json?: boolean }) => {
    const publicKey = newOwnerKey(file, options.type, readPassphrase(options.passphraseFile));
    print(options.json, publicKey, keyText(publicKey));
  });

const show = new Command("show")
  .description("print the public half of a key")
  .argument("<FILE>", "a key's file")
  .option("--json", "one JSON document")
  .action((file: string, options: { json?: boolean }) => {
    const publicKey = readPublicKey(file);
    print(options.json, publicKey, keyText(publicKey));
  });

export const command = new Command("caisson owner")
  .description("Keys that sign identities, releases and revocations (docs/releases.md).")
  .addCommand(create)
  .addCommand(show);
