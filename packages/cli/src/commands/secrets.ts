// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson secrets …`: seal what an application is given to its KMS, and sign it. Values come from files or standard input,
 * never from the command line, and are shown by no command.
 */
import { seal } from "@caisson/protocol/hpke";
import { readSealingKey, type SealingKeyDocument, sealingKeyPath } from "@caisson/protocol/key-release";
import { type Envelope, readSecretsDocument, sealBinding, writeSecrets } from "@caisson/releases";
import { firstBytes } from "@caisson/vocabulary/body";
import { toHex } from "@caisson/vocabulary/bytes";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { readInput } from "../input-file.ts";
import { days, releaseNumber } from "../number-options.ts";
import { writeNewFile } from "../output-file.ts";
import { readTextFile } from "../passphrase-file.ts";
import {
  envelopeText,
  inWords,
  readEnvelopeFile,
  readIdentityFiles,
  signFile,
  writtenTime,
} from "../release-files.ts";

/** A sealing key's document that its KMS signed. Throws UsageError. */
function checkSealingKey(text: string, from: string, kms: string, app: string): SealingKeyDocument {
  try {
    return readSealingKey(JSON.parse(text), kms, app);
  } catch (error) {
    throw new UsageError(
      `${from} gives no sealing key of application ${app} by KMS ${kms}: ${reasonOf(error)}`,
      "what GET /v1/sealing-key/APP of the KMS answers; another key would let somebody else read the secrets",
    );
  }
}

/** From the KMS, or a file that was fetched from it. */
async function sealingKeyOf(place: string, kms: string, app: string): Promise<SealingKeyDocument> {
  if (!/^https?:\/\//.test(place)) return checkSealingKey(readTextFile(place), place, kms, app);
  let text: string;
  try {
    const response = await fetch(new URL(`${sealingKeyPath}/${app}`, place), {
      redirect: "error",
      signal: AbortSignal.timeout(20_000),
    });
    const { bytes } = await firstBytes(response.body, 4096);
    text = new TextDecoder().decode(bytes);
  } catch (error) {
    throw new UsageError(
      `${place} cannot be asked: ${reasonOf(error)}`,
      "the KMS's address, or a file with its answer",
    );
  }
  return checkSealingKey(text, place, kms, app);
}

/** `NAME=FILE` by name; the value is every byte of the file. */
function readValues(texts: readonly string[]): Map<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  for (const text of texts) {
    const [name = "", ...rest] = text.split("=");
    const path = rest.join("=");
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name) || path === "" || values.has(name)) {
      throw new UsageError(`'${name}' names no secret, or one twice`, "--secret NAME=FILE");
    }
    try {
      values.set(name, new Uint8Array(readInput(path)));
    } catch (error) {
      throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`, "a file that holds the value");
    }
  }
  return values;
}

interface SealOptions {
  identity: string;
  generation: string[];
  kms: string;
  kmsIdentity: string;
  secret: string[];
  after?: string;
  minimumRelease: number;
  days: number;
  output: string;
}

const day = 24 * 3600 * 1000;

async function sealSet(options: SealOptions): Promise<void> {
  const { id } = await readIdentityFiles(options.identity, options.generation);
  const kms = options.kmsIdentity.toLowerCase();
  const { keyVersion, key } = await sealingKeyOf(options.kms, kms, id);
  const before =
    options.after === undefined ? undefined : await readSecretsDocument(readEnvelopeFile(options.after));
  if (before !== undefined && before.document.app !== id) {
    throw new UsageError(`${options.after} is a set of another application`, "the set before this one");
  }
  const number = (before?.document.number ?? 0) + 1;
  const values = readValues(options.secret);
  const entries = [...values].map(([name, value]) => {
    const binding = sealBinding({ app: id, kms, keyVersion, number }, name);
    const { enc, ciphertext } = seal(Uint8Array.fromHex(key), value, binding);
    value.fill(0);
    return [name, { enc: toHex(enc), ciphertext: toHex(ciphertext) }] as const;
  });
  const unsigned = writeSecrets({
    app: id,
    kms,
    keyVersion,
    number,
    previous: before?.hash ?? null,
    minimumRelease: options.minimumRelease,
    expires: writtenTime(Date.now() + options.days * day),
    entries: Object.fromEntries(entries),
  });
  const envelope: Envelope = { ...unsigned, signatures: [] };
  const words = await inWords(envelope);
  writeNewFile(options.output, envelopeText(envelope));
  process.stdout.write(`${words.join("\n")}\n`);
}

const sealCommand = new Command("seal")
  .description(
    "seal values to an application's KMS, as a set to be signed; it follows --after, or is the first",
  )
  .requiredOption("--identity <FILE>", "the application's first identity document")
  .option("--generation <FILE...>", "signed later generations, in order", [])
  .requiredOption("--kms <URL>", "the KMS, or a file with its answer to GET /v1/sealing-key/APP")
  .requiredOption("--kms-identity <HEX>", "the KMS's identity, as images pin it")
  .requiredOption(
    "--secret <NAME=FILE...>",
    "each secret that the description declares; its value is the whole file",
  )
  .option("--after <FILE>", "the set before it")
  .option("--minimum-release <N>", "releases with a lower number do not get it", releaseNumber, 1)
  .option("--days <N>", "how long it is valid", days, 90)
  .requiredOption("--output <FILE>", "the new file")
  .action(sealSet);

const sign = new Command("sign")
  .description("say in words what a set is (names and numbers, no values), and sign it")
  .argument("<FILE>", "from caisson secrets seal; gets one more signature")
  .requiredOption("--key <FILE>", "from caisson owner new")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .action(signFile);

const show = new Command("show")
  .description("say in words what is in a set: names and numbers, no values")
  .argument("<FILE>", "the envelope")
  .action(async (file: string) => {
    process.stdout.write(`${(await inWords(readEnvelopeFile(file))).join("\n")}\n`);
  });

export const command = new Command("caisson secrets")
  .description("What an application is given and must not stand in its image (docs/releases.md).")
  .addCommand(sealCommand)
  .addCommand(sign)
  .addCommand(show);
