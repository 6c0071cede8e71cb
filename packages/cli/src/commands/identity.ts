// SPDX-License-Identifier: Apache-2.0
/** `caisson identity …`: who an application is, and how its owners change. */
import {
  type IdentityDocument,
  identityPayloadType,
  identityVersion,
  readIdentity,
  writeCanonical,
} from "@caisson/releases";
import { Command, InvalidArgumentError } from "commander";
import { whole } from "../number-options.ts";
import { writeNewFile } from "../output-file.ts";
import { readPublicKey } from "../owner-keys.ts";
import { readTextFile } from "../passphrase-file.ts";
import { envelopeText, identityLines, readIdentityFiles, signFile } from "../release-files.ts";
import { answer } from "../views/answer.ts";

function parseDigest(text: string): string {
  if (!/^[0-9a-fA-F]{64}$/.test(text)) throw new InvalidArgumentError("expected 32 bytes in hexadecimal");
  return text.toLowerCase();
}

/** What is false is taken back by a next generation. */
interface Rules {
  owner?: string[];
  threshold?: number;
  rebuilder?: string[] | false;
  rebuilds?: number;
  secretKey?: string[] | false;
  secretKeys?: number;
  logPolicy?: string | false;
  immutable?: string;
}

const keys = (texts: readonly string[], threshold: number | undefined) => ({
  threshold: threshold ?? texts.length,
  keys: texts.map(readPublicKey),
});

/** What the options say; what they leave out is not in it. */
function rulesOf(options: Rules): Partial<IdentityDocument> {
  const { owner, rebuilder, secretKey, logPolicy, immutable } = options;
  return {
    ...(owner !== undefined && { owners: keys(owner, options.threshold) }),
    ...(rebuilder !== undefined && {
      rebuild: rebuilder === false ? null : keys(rebuilder, options.rebuilds),
    }),
    ...(secretKey !== undefined && {
      secrets: secretKey === false ? null : keys(secretKey, options.secretKeys),
    }),
    ...(logPolicy !== undefined && { log: logPolicy === false ? null : { policy: readTextFile(logPolicy) } }),
    ...(immutable !== undefined && { immutable }),
  };
}

const withRules = (command: Command): Command =>
  command
    .option("--owner <KEY...>", "who signs: key files, or ed25519:HEX, p256:HEX")
    .option("--threshold <N>", "how many owners have to; all when left out", whole(1, 99))
    .option("--rebuilder <KEY...>", "who may say that they built the same image again")
    .option("--rebuilds <N>", "how many have to; all when left out", whole(1, 99))
    .option("--secret-key <KEY...>", "who gives it secrets; its owners when left out")
    .option("--secret-keys <N>", "how many have to; all when left out", whole(1, 99))
    .option(
      "--log-policy <FILE>",
      "a tlog-policy: where its releases are logged, and who has to have seen it",
    )
    .option("--immutable <SHA-256>", "the only description that it ever runs", parseDigest);

const create = withRules(new Command("new"))
  .description("write the identity of a new application, and print its id")
  .requiredOption("--name <NAME>", "for people")
  .requiredOption("--stop <KEY...>", "who may revoke its releases, for ever; one is enough")
  .requiredOption("--output <FILE>", "the new file")
  .action(async (options: Rules & { name: string; stop: string[]; output: string }) => {
    const bytes = writeCanonical({
      version: identityVersion,
      name: options.name,
      generation: 0,
      previous: null,
      owners: null,
      stop: keys(options.stop, 1),
      rebuild: null,
      secrets: null,
      log: null,
      immutable: null,
      ...rulesOf(options),
    });
    const { hash, document } = await readIdentity(bytes);
    writeNewFile(options.output, bytes);
    process.stdout.write(`${hash}\n`);
    process.stderr.write(
      `Without ${document.owners.threshold} of these owners' keys nothing of this application can ever be changed again.\n`,
    );
  });

const show = new Command("show")
  .description("print an identity, its newest generation if later ones are named")
  .argument("<FILE>", "its first document")
  .argument("[GENERATION...]", "signed later generations, in order")
  .option("--json", "one JSON document")
  .action(async (file: string, later: string[], options: { json?: boolean }) => {
    const { id, identity } = await readIdentityFiles(file, later);
    const text = [`application ${id}`, ...identityLines(identity)].join("\n");
    const document = { id, hash: identity.hash, document: identity.document };
    answer(options.json, document, text);
  });

const rotate = withRules(new Command("rotate"))
  .option("--no-rebuilder", "nobody has to build the same image again from then on")
  .option("--no-secret-key", "its owners give it secrets from then on")
  .option("--no-log-policy", "its releases are not logged from then on")
  .description("write the next generation of an identity, which owners of both generations have to sign")
  .argument("<FILE>", "its first document")
  .argument("[GENERATION...]", "signed later generations, in order")
  .requiredOption("--output <FILE>", "the new file")
  .action(async (file: string, later: string[], options: Rules & { output: string }) => {
    const { identity } = await readIdentityFiles(file, later);
    const { document, hash } = identity;
    const payload = writeCanonical({
      ...document,
      ...rulesOf(options),
      generation: document.generation + 1,
      previous: hash,
    });
    const next = await readIdentity(payload);
    writeNewFile(options.output, envelopeText({ payload, payloadType: identityPayloadType, signatures: [] }));
    process.stdout.write(`${identityLines(next).join("\n")}\n`);
  });

const sign = new Command("sign")
  .description("say in words what a next generation says, and sign it")
  .argument("<FILE>", "from caisson identity rotate; gets one more signature")
  .requiredOption("--key <FILE>", "from caisson owner new")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .action(signFile);

export const command = new Command("caisson identity")
  .description("Who an application is: the rules by which its releases are signed (docs/releases.md).")
  .addCommand(create)
  .addCommand(show)
  .addCommand(rotate)
  .addCommand(sign);
