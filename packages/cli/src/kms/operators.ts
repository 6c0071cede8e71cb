// SPDX-License-Identifier: Apache-2.0
/** `caisson kms request …`: what operators ask of a KMS, written, signed by enough of them, and sent. */
import { readFileSync } from "node:fs";
import type { OperatorRequest } from "@caisson/kms";
import { refusalSchema } from "@caisson/protocol/key-release";
import { type Envelope, ReleaseError, readEnvelope, signedBytes, writeEnvelope } from "@caisson/releases";
import { Failure } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { Argument, Command } from "commander";
import { UsageError } from "../failure.ts";
import { writeNewFile } from "../output-file.ts";
import { openOwnerKey, readPublicKey } from "../owner-keys.ts";
import { readPassphrase, readTextFile } from "../passphrase-file.ts";
import { printable } from "../views/printable.ts";

interface Common {
  kms: string;
  output: string;
  days: string;
  replaces: string;
}

const day = 24 * 3600 * 1000;

function whole(text: string, what: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${what} is a whole number`, `not '${text}'`);
  return Number(text);
}

/** A request in a new file, with no signature yet. */
async function write(
  { kms, output, days, replaces }: Common,
  asked: (common: Pick<OperatorRequest, "version" | "kms" | "expires" | "replaces">) => OperatorRequest,
): Promise<void> {
  const { operatorEnvelope } = await import("@caisson/kms");
  const document = asked({
    version: "caisson/kms-request/v1",
    kms: kms.toLowerCase(),
    expires: Date.now() + whole(days, "--days") * day,
    replaces: whole(replaces, "--replaces"),
  });
  writeNewFile(output, `${JSON.stringify(writeEnvelope(operatorEnvelope(document)), null, 2)}\n`);
  process.stdout.write(`${output}\n`);
}

function common(command: Command): Command {
  return command
    .requiredOption("--kms <HEX>", "the KMS's identity")
    .requiredOption("--output <FILE>", "the request's new file")
    .option("--replaces <N>", "the version of what it replaces (GET /v1/policies/APP, /v1/operators)", "0")
    .option("--days <N>", "for how long it may be sent", "7");
}

const policySet = common(new Command("policy-set"))
  .description("ask for a policy: which machines get the keys of an application")
  .argument("<FILE>", "a policy file (docs/key-release.md)")
  .requiredOption("--app <HEX>", "its application")
  .action((file: string, options: Common & { app: string }) =>
    write(options, (rest) => ({
      ...rest,
      action: "policy/set",
      app: options.app.toLowerCase(),
      policy: readTextFile(file),
    })),
  );

const policyRemove = common(new Command("policy-remove"))
  .description("ask that an application gets no keys any more")
  .requiredOption("--app <HEX>", "the application")
  .action((options: Common & { app: string }) =>
    write(options, (rest) => ({ ...rest, action: "policy/remove", app: options.app.toLowerCase() })),
  );

const operatorsSet = common(new Command("operators-set"))
  .description("ask that others sign from then on")
  .argument("<KEY...>", "all operators: ed25519:HEX, p256:HEX, or files of keys")
  .requiredOption("--threshold <N>", "how many of them must sign")
  .action((keys: string[], options: Common & { threshold: string }) =>
    write(options, (rest) => ({
      ...rest,
      action: "operators/set",
      operators: { keys: keys.map(readPublicKey), threshold: whole(options.threshold, "--threshold") },
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
  .argument("<ID>", "the volume, 64 hex digits")
  .action((operation: (typeof operations)[number], volume: string, options: Common) =>
    write(options, (rest) => ({
      ...rest,
      action: "volume/operate",
      volume: volume.toLowerCase(),
      operation,
    })),
  );

function readRequest(file: string): Envelope {
  try {
    return readEnvelope(JSON.parse(readFileSync(file, "utf8")));
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
  .action((file: string, options: { key: string; passphraseFile: string; output: string }) => {
    const envelope = readRequest(file);
    const key = openOwnerKey(options.key, readPassphrase(options.passphraseFile));
    const signature = key.sign(signedBytes(envelope));
    const signed = { ...envelope, signatures: [...envelope.signatures, signature] };
    writeNewFile(options.output, `${JSON.stringify(writeEnvelope(signed), null, 2)}\n`);
    process.stdout.write(`${printable(new TextDecoder().decode(envelope.payload))}\n${options.output}\n`);
  });

const send = new Command("send")
  .description("send a signed request to a KMS")
  .argument("<FILE>", "the signed request")
  .argument("<URL>", "the KMS")
  .action(async (file: string, url: string) => {
    if (!URL.canParse(url)) throw new UsageError(`'${url}' is not a URL`, "as http://HOST:PORT");
    const { KmsError } = await import("@caisson/kms");
    let answer: unknown;
    try {
      const body = JSON.stringify(writeEnvelope(readRequest(file)));
      const response = await fetch(new URL("/v1/admin", url), {
        method: "POST",
        body,
        redirect: "error",
        signal: AbortSignal.timeout(20_000),
      });
      answer = await response.json();
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw new KmsError("kms/unreachable", `${url}: ${reasonOf(error)}`);
    }
    const refusal = refusalSchema.safeParse(answer);
    if (refusal.success) {
      const { code, message } = refusal.data.error;
      throw new KmsError("kms/refused", `the KMS refuses: ${message}   [${code}]`);
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
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
