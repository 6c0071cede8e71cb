// SPDX-License-Identifier: Apache-2.0
/** `caisson kms request …`: what operators ask of a KMS, written, signed by enough of them, and sent. */
import type { OperatorRequest } from "@caisson/kms";
import { type Envelope, ReleaseError, readEnvelope, signedBytes, writeEnvelope } from "@caisson/releases";
import { SchemaError } from "@caisson/vocabulary/schema";
import { Argument, Command } from "commander";
import { UsageError } from "../failure.ts";
import { days, whole } from "../number-options.ts";
import { writeNewFile } from "../output-file.ts";
import { openOwnerKey, readPublicKey } from "../owner-keys.ts";
import { readPassphrase, readTextFile } from "../passphrase-file.ts";
import { envelopeText } from "../release-files.ts";
import { renderRequest } from "../views/request-view.ts";
import { appOf, keyOf, kmsUrl } from "./values.ts";

interface Common {
  kms: string;
  output: string;
  days: number;
  replaces: number;
}

const day = 24 * 3600 * 1000;

/** A request in a new file, with no signature yet. Throws UsageError. */
async function write(
  { kms, output, days, replaces }: Common,
  asked: (common: Pick<OperatorRequest, "version" | "kms" | "expires" | "replaces">) => OperatorRequest,
): Promise<void> {
  const { operatorEnvelope } = await import("@caisson/kms");
  const expires = Date.now() + days * day;
  const document = asked({ version: "caisson/kms-request/v1", kms, expires, replaces });
  let envelope: Envelope;
  try {
    envelope = operatorEnvelope(document);
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    const what = error.message.slice(0, 200);
    throw new UsageError(`the request's ${error.path}: ${what}`, "caisson kms request --help");
  }
  writeNewFile(output, envelopeText(envelope));
  process.stdout.write(`${output}\n`);
}

function common(command: Command): Command {
  return command
    .requiredOption("--kms <HEX>", "the KMS's identity", keyOf)
    .requiredOption("--output <FILE>", "the request's new file")
    .option(
      "--replaces <N>",
      "the version of what it replaces (GET /v1/policies/APP, /v1/operators)",
      whole(0, 999_999_999),
      0,
    )
    .option("--days <N>", "for how long it may be sent", days, 7);
}

const policySet = common(new Command("policy-set"))
  .description("ask for a policy: which machines get the keys of an application")
  .argument("<FILE>", "a policy file (docs/key-release.md)")
  .requiredOption("--app <HEX>", "its application", appOf)
  .action((file: string, options: Common & { app: string }) =>
    write(options, (rest) => ({
      ...rest,
      action: "policy/set",
      app: options.app,
      policy: readTextFile(file),
    })),
  );

const policyRemove = common(new Command("policy-remove"))
  .description("ask that an application gets no keys any more")
  .requiredOption("--app <HEX>", "the application", appOf)
  .action((options: Common & { app: string }) =>
    write(options, (rest) => ({ ...rest, action: "policy/remove", app: options.app })),
  );

const operatorsSet = common(new Command("operators-set"))
  .description("ask that others sign from then on")
  .argument("<KEY...>", "all operators: ed25519:HEX, p256:HEX, or files of keys")
  .requiredOption("--threshold <N>", "how many of them must sign", whole(1, 64))
  .action((keys: string[], options: Common & { threshold: number }) =>
    write(options, (rest) => ({
      ...rest,
      action: "operators/set",
      operators: { keys: keys.map(readPublicKey), threshold: options.threshold },
    })),
  );

/** A date (ISO 8601), as milliseconds since 1970. */
export function dateOf(option: string, text: string): number {
  const ms = Date.parse(text);
  if (Number.isNaN(ms))
    throw new UsageError(`${option} '${text}' is not a date`, "for example 2027-01-31T00:00Z");
  return ms;
}

const rootRotate = common(new Command("root-rotate"))
  .description("ask for a new root, from which applications' keys follow whose policies name it")
  .requiredOption("--from <DATE>", "when it begins (ISO 8601)")
  .requiredOption("--until <DATE>", "when the one before it ends")
  .action((options: Common & { from: string; until: string }) =>
    write(options, (rest) => ({
      ...rest,
      action: "root/rotate",
      from: dateOf("--from", options.from),
      until: dateOf("--until", options.until),
    })),
  );

const operations = ["allow", "suspect", "delete"] as const;
const volumeOperate = common(new Command("volume"))
  .description(
    "ask for a word about a persistent volume (caisson kms volume); --replaces: operations of GET /v1/volumes",
  )
  .addArgument(new Argument("<WORD>", "what").choices(operations))
  .argument("<ID>", "the volume, 64 hex digits", keyOf)
  .action((operation: (typeof operations)[number], volume: string, options: Common) =>
    write(options, (rest) => ({
      ...rest,
      action: "volume/operate",
      volume,
      operation,
    })),
  );

/** A request in a file, and its envelope. Throws UsageError. */
async function readRequest(file: string): Promise<{ envelope: Envelope; request: OperatorRequest }> {
  const { operatorRequest } = await import("@caisson/kms");
  try {
    const envelope = readEnvelope(JSON.parse(readTextFile(file)));
    return { envelope, request: operatorRequest(envelope) };
  } catch (error) {
    if (error instanceof ReleaseError || error instanceof SyntaxError) {
      throw new UsageError(`${file} holds no request: ${error.message}`, "caisson kms request writes one");
    }
    throw error;
  }
}

const sign = new Command("sign")
  .description("show what a request asks for, and sign it")
  .argument("<FILE>", "the request")
  .requiredOption("--key <FILE>", "the operator's key (caisson owner new)")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .requiredOption("--output <FILE>", "the signed request's new file")
  .action(async (file: string, options: { key: string; passphraseFile: string; output: string }) => {
    const { envelope, request } = await readRequest(file);
    const key = openOwnerKey(options.key, readPassphrase(options.passphraseFile));
    const signature = key.sign(signedBytes(envelope));
    const signed = { ...envelope, signatures: [...envelope.signatures, signature] };
    writeNewFile(options.output, envelopeText(signed));
    process.stdout.write(`${renderRequest(request, process.stdout.columns)}\n${options.output}\n`);
  });

const send = new Command("send")
  .description("send a signed request to a KMS")
  .argument("<FILE>", "the signed request")
  .argument("<URL>", "the KMS", kmsUrl)
  .action(async (file: string, url: string) => {
    const { sendRequest } = await import("@caisson/kms");
    const { envelope } = await readRequest(file);
    const changed = await sendRequest(url, writeEnvelope(envelope));
    process.stdout.write(`${JSON.stringify(changed)}\n`);
  });

export const requestCommand = new Command("request")
  .description("what operators ask of a KMS, and sign: policies, who its operators are, roots, volumes")
  .addCommand(policySet)
  .addCommand(policyRemove)
  .addCommand(operatorsSet)
  .addCommand(rootRotate)
  .addCommand(volumeOperate)
  .addCommand(sign)
  .addCommand(send);
