// SPDX-License-Identifier: Apache-2.0
/** `caisson kms verify | join`: a KMS that runs in a guest, for who relies on it and for its replicas. */
import { Command } from "commander";
import { exitCodes, verdictCodes } from "../exit-codes.ts";
import { UsageError } from "../failure.ts";
import { filesOf, type JudgedBy, judgementOf } from "../judged-by.ts";
import { writeNewFile } from "../output-file.ts";
import { readTextFile } from "../passphrase-file.ts";
import { jsonText } from "../views/answer.ts";
import { renderReport } from "../views/report-view.ts";
import { openKey } from "./shares.ts";
import { keyOf, kmsUrl } from "./values.ts";

/** By what a KMS's guest is judged. */
const judgedBy = (command: Command): Command =>
  command
    .option("--policy <FILE>", "which guests may be KMS, by their owners' releases or their registers")
    .option("--image <FILE...>", "reference values, as for caisson verify", [])
    .option("--kit <DIR>", "policy, reference values and collateral from a kit that caisson publish wrote")
    .option("--collateral <FILE>", "Intel's (PCCS-style JSON) or AMD's collateral")
    .option("--revocation <FILE...>", "revocations of its releases that are known here", []);

export const verifyCommand = judgedBy(new Command("verify"))
  .description(
    "ask a KMS who it is: does it run in a guest that the policy accepts, and was its identity key made in one? Exit" +
      " codes as of caisson verify",
  )
  .argument("<URL>", "the KMS", kmsUrl)
  .option("--identity <HEX>", "the identity key that it must have", keyOf)
  .option("--json", "the report, with the identity key, as one JSON document")
  .action(async (url: string, given: JudgedBy & { identity?: string; json?: boolean }) => {
    const { askKms } = await import("@caisson/kms");
    const judged = await askKms(url, await judgementOf(filesOf(given), new Date()));
    const { key: identityKey, first, upstream, report } = judged;
    const other = given.identity !== undefined && given.identity !== identityKey;
    const said = other
      ? `it has the identity key ${identityKey}, and not the one that was asked for`
      : report.verdict !== "accepted"
        ? "nothing says where its identity key was made"
        : `the KMS ${identityKey}\n${
            first
              ? "  its root secret was made in this guest, or given to it by keepers of shares"
              : upstream !== undefined
                ? `  its root secret was made in such a guest, and is on a volume that the KMS ${upstream} opens`
                : "  its root secret came from such a guest, which this one had judged"
          }`;
    process.stdout.write(
      given.json === true
        ? jsonText({ ...report, kms: { identityKey, first, ...(upstream !== undefined && { upstream }) } })
        : `${renderReport(report)}\n${said}\n`,
    );
    process.exitCode = other ? exitCodes.rejected : verdictCodes[report.verdict];
  });

/** As a keeper, without a look at the key that is sealed to: the guest that recovers has proved what it is. */
export const giveCommand = judgedBy(new Command("give"))
  .description(
    "as a keeper: judge the guest that recovers, then open one's share and send it, sealed to that guest",
  )
  .argument("<FILE>", "the shares")
  .argument("<URL>", "the guest, whose image has these shares (examples/kms)", kmsUrl)
  .requiredOption("--keeper <NAME>", "whose share")
  .requiredOption("--key <FILE>", "the keeper's key")
  .requiredOption("--passphrase-file <FILE>", "its first line is the passphrase; - is standard input")
  .action(
    async (
      file: string,
      url: string,
      given: JudgedBy & { keeper: string; key: string; passphraseFile: string },
    ) => {
      const { askKms, get, passShare, readShares, sharesPath } = await import("@caisson/kms");
      const document = readShares(readTextFile(file));
      const judgement = await judgementOf(filesOf(given), new Date());
      const { key, report } = await askKms(url, judgement, "caisson/kms-recovery/v1");
      if (report.verdict !== "accepted") {
        process.stdout.write(`${renderReport(report)}\nno share is given to it\n`);
        process.exitCode = verdictCodes[report.verdict];
        return;
      }
      const own = await openKey(given.key, given.passphraseFile);
      const share = passShare(document, given.keeper, own, key);
      process.stdout.write(
        `${new TextDecoder().decode(await get(url, sharesPath, JSON.stringify(share)))}\n`,
      );
    },
  );

export const joinCommand = new Command("join")
  .description("as a replica: take the root secret of the KMS that released this application's keys")
  .argument("<URL>", "a replica that runs (kms serve --own-app)", kmsUrl)
  .requiredOption(
    "--identity <HEX>",
    "the KMS's identity, which this guest measured as its key provider",
    keyOf,
  )
  .requiredOption("--key-file <FILE>", "the key `root` of path `kms` that the guest derived, in hexadecimal")
  .requiredOption("--data <DIR>", "where the root secret will lie; none may be there")
  .option("--head <FILE>", "a new file with what its log has now, for kms serve --head")
  .action(
    async (url: string, options: { identity: string; keyFile: string; data: string; head?: string }) => {
      const { askHead, kmsIdentity, refuseRootSecret, storeRootSecret, takeRoot } = await import(
        "@caisson/kms"
      );
      refuseRootSecret(options.data);
      const key = readTextFile(options.keyFile).trim();
      if (!/^[0-9a-f]{64}$/.test(key))
        throw new UsageError(`${options.keyFile} holds no key`, "64 hexadecimal digits");
      const secret = await takeRoot(url, Uint8Array.fromHex(key), options.identity);
      if (options.head !== undefined) {
        const { sequence, hash } = await askHead(url, Uint8Array.fromHex(options.identity));
        writeNewFile(options.head, `${JSON.stringify({ sequence, hash })}\n`);
      }
      storeRootSecret(options.data, secret);
      secret.fill(0);
      process.stdout.write(`${kmsIdentity(options.data)}\n`);
    },
  );
