// SPDX-License-Identifier: Apache-2.0
/** `caisson kms shares …`: the root secret in n shares, any k of which give it again. */
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import type { SealingKey } from "@caisson/protocol/hpke";
import { decryptUnder, encryptUnder, PASSPHRASE_LENGTH, passphraseSizes } from "@caisson/protocol/passphrase";
import { frame } from "@caisson/vocabulary/frame";
import { hex, object, oneOf, SchemaError } from "@caisson/vocabulary/schema";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { whole } from "../number-options.ts";
import { writeNewFile } from "../output-file.ts";
import { readPassphrase, readTextFile } from "../passphrase-file.ts";
import { jsonText } from "../views/answer.ts";
import { type RestoreOptions, restoredBefore, restoreFrom } from "./restores.ts";
import { keyOf } from "./values.ts";

const version = "caisson/share-key/v1";
const schema = object({
  version: oneOf(version),
  key: hex(32),
  salt: hex(passphraseSizes.salt),
  nonce: hex(passphraseSizes.nonce),
  ciphertext: hex(32 + passphraseSizes.tag),
});

const about = (key: string) => frame(version, Uint8Array.fromHex(key));

const key = new Command("key")
  .description("make a keeper's key in a new file, encrypted under a passphrase, and print its public half")
  .argument("<FILE>", "the new file")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .action(async (file: string, options: { passphraseFile: string }) => {
    const { sealingKey } = await import("@caisson/protocol/hpke");
    const passphrase = readPassphrase(options.passphraseFile);
    if (passphrase.length < PASSPHRASE_LENGTH) {
      throw new UsageError(`a passphrase has at least ${PASSPHRASE_LENGTH} characters`, "a longer one");
    }
    const secret = crypto.getRandomValues(new Uint8Array(32));
    const publicKey = sealingKey(secret).publicKey.toHex();
    writeNewFile(
      file,
      jsonText({ version, key: publicKey, ...encryptUnder(passphrase, secret, about(publicKey)) }),
      0o600,
    );
    secret.fill(0);
    process.stdout.write(`${publicKey}\n`);
  });

/** A keeper's key. Throws UsageError. */
export async function openKey(path: string, passphraseFile: string): Promise<SealingKey> {
  const { sealingKey } = await import("@caisson/protocol/hpke");
  try {
    const { key: publicKey, version: _, ...sealed } = schema(JSON.parse(readTextFile(path)));
    const secret = decryptUnder(readPassphrase(passphraseFile), sealed, about(publicKey));
    if (secret !== undefined) return sealingKey(secret);
  } catch (error) {
    if (!(error instanceof SchemaError || error instanceof SyntaxError)) throw error;
    throw new UsageError(
      `${path} is not a keeper's key: ${error.message}`,
      "caisson kms shares key makes one",
    );
  }
  throw new UsageError(
    `${path} does not open: another passphrase, or it was changed`,
    "the passphrase it was made with",
  );
}

const make = new Command("make")
  .description("split the root secret into shares, each sealed to one keeper; the release log names them")
  .requiredOption("--data <DIR>", "root secret and release log")
  .option("--database <URL>", "PostgreSQL of the log, instead of the file in the data directory")
  .requiredOption("--threshold <K>", "how many keepers are needed", whole(2, 255))
  .requiredOption("--keeper <NAME=KEY...>", "a keeper's name and public key (caisson kms shares key)")
  .requiredOption("--output <FILE>", "the new file, which need not be secret")
  .action(
    async (options: {
      data: string;
      database?: string;
      threshold: number;
      keeper: string[];
      output: string;
    }) => {
      const { makeShares, openLogStore, openRootSecret, publishShares } = await import("@caisson/kms");
      const keepers = options.keeper.map((text) => {
        const [, name, publicKey] = /^([\w.@-]+)=([0-9a-f]{64})$/i.exec(text) ?? [];
        if (name === undefined || publicKey === undefined) {
          throw new UsageError(`'${text}' is not NAME=KEY`, "64 hexadecimal digits after the name");
        }
        return { name, key: publicKey.toLowerCase() };
      });
      const secret = openRootSecret(options.data);
      const document = await makeShares(secret, options.threshold, keepers, Date.now());
      const store = await openLogStore(
        options.data,
        options.database === undefined ? [] : [options.database],
        secret,
      );
      try {
        // Before the log names them: a name that is taken must not leave shares that nobody was given.
        writeNewFile(options.output, jsonText(document));
        await publishShares(store, document);
      } catch (error) {
        if (!(error instanceof UsageError)) unlinkSync(options.output);
        throw error;
      } finally {
        await store.close();
      }
      process.stdout.write(`${options.output}\n`);
    },
  );

const seal = new Command("seal")
  .description("as a keeper: open one's share and seal it to the machine that recovers")
  .argument("<FILE>", "the shares")
  .requiredOption("--keeper <NAME>", "whose share")
  .requiredOption("--key <FILE>", "the keeper's key")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .requiredOption(
    "--to <KEY>",
    "the recovering machine's key, which `kms shares recover` prints there",
    keyOf,
  )
  .requiredOption("--output <FILE>", "the new file")
  .action(
    async (
      file: string,
      options: { keeper: string; key: string; passphraseFile: string; to: string; output: string },
    ) => {
      const { passShare, readShares } = await import("@caisson/kms");
      const own = await openKey(options.key, options.passphraseFile);
      const document = readShares(readTextFile(file));
      writeNewFile(options.output, jsonText(passShare(document, options.keeper, own, options.to)), 0o600);
      process.stdout.write(`${options.output}\n`);
    },
  );

const recover = new Command("recover")
  .description(
    "without sealed shares: print the key to seal them to; with enough of them: write the root secret, and persistent volumes are suspect",
  )
  .argument("<FILE>", "the shares")
  .argument("[SEALED...]", "shares that keepers sealed to this machine")
  .requiredOption("--data <DIR>", "where the root secret will lie; none may be there")
  .option("--database <URL>", "the log and volumes in PostgreSQL instead")
  .addOption(restoredBefore())
  .action(async (file: string, sealed: string[], options: RestoreOptions) => {
    const { dataFiles, kmsIdentity, openRecoveryKey, readShares, recoverSecret, refuseRootSecret } =
      await import("@caisson/kms");
    const { sealingKey } = await import("@caisson/protocol/hpke");
    const document = readShares(readTextFile(file));
    refuseRootSecret(options.data);
    const own = sealingKey(openRecoveryKey(options.data));
    if (sealed.length === 0) {
      process.stdout.write(`${own.publicKey.toHex()}\n`);
      return;
    }
    const secret = await recoverSecret(document, own, sealed.map(readTextFile));
    await restoreFrom(file, options, secret);
    secret.fill(0);
    unlinkSync(join(options.data, dataFiles.recoveryKey));
    process.stdout.write(`${kmsIdentity(options.data)}\n`);
  });

export const sharesCommand = new Command("shares")
  .description("the root secret in n shares, any k of which give it again")
  .addCommand(key)
  .addCommand(make)
  .addCommand(seal)
  .addCommand(recover);
