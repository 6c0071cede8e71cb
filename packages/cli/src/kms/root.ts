// SPDX-License-Identifier: Apache-2.0
/** `caisson kms root …`: the roots from which applications' keys follow, of a KMS whose policies are files. */
import type { RootDates, Store } from "@caisson/kms";
import { Command } from "commander";
import { answer } from "../views/answer.ts";
import { dateOf } from "./operators.ts";

interface Where {
  data: string;
  database?: string;
  json?: boolean;
}

/** What `use` does with the store of a KMS, which may run. */
async function withStore<T>({ data, database }: Where, use: (store: Store) => Promise<T>): Promise<T> {
  const { openLogStore, openRootSecret } = await import("@caisson/kms");
  const store = await openLogStore(data, database === undefined ? [] : [database], openRootSecret(data));
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

const day = (ms: number): string => new Date(ms).toISOString();

function show(json: boolean | undefined, roots: readonly RootDates[]): void {
  const lines = roots.map(
    ({ number, from, until }) =>
      `root ${number}  from ${from === 0 ? "the beginning" : day(from)}${until === null ? "" : `  until ${day(until)}`}`,
  );
  answer(json, { roots }, lines.join("\n"));
}

const located = (command: Command): Command =>
  command
    .requiredOption("--data <DIR>", "root secret and release log")
    .option("--database <URL>", "the log and rows in PostgreSQL instead")
    .option("--json", "one JSON document");

const list = located(new Command("list"))
  .description("every root, from when and until when policies may name it")
  .action(async (options: Where) => {
    const { readRoots } = await import("@caisson/kms");
    show(options.json, (await withStore(options, readRoots)).roots);
  });

const rotate = located(new Command("rotate"))
  .description("make another root; until the one before it ends, policies may name either (root: N)")
  .requiredOption("--from <DATE>", "when it begins (ISO 8601)")
  .requiredOption("--until <DATE>", "when the one before it ends")
  .action(async (options: Where & { from: string; until: string }) => {
    const rotation = { from: dateOf("--from", options.from), until: dateOf("--until", options.until) };
    const { rotateRoot } = await import("@caisson/kms");
    show(options.json, await withStore(options, (store) => rotateRoot(store, rotation, Date.now())));
  });

export const rootCommand = new Command("root")
  .description("the roots from which applications' keys follow (docs/runbooks.md)")
  .addCommand(list)
  .addCommand(rotate);
