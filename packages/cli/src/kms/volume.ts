// SPDX-License-Identifier: Apache-2.0
/** `caisson kms volume …`: what a KMS knows of persistent volumes, and an operator's word about them (docs/volumes.md). */
import { join } from "node:path";
import type { OperatorAction, VolumeBook, VolumeRecord } from "@caisson/kms";
import { Command } from "commander";
import { answer } from "../views/answer.ts";
import { type RestoreOptions, restoredBefore, restoreFrom } from "./restores.ts";

const dataOption = ["--data <DIR>", "root secret, release log and volumes"] as const;
const databaseOption = ["--database <URL>", "the log and volumes in PostgreSQL instead"] as const;

interface Where {
  data: string;
  database?: string;
  json?: boolean;
}

/** The volumes of a KMS, which may run. */
async function openBook({ data, database }: Where) {
  const { openVolumeBook } = await import("@caisson/kms");
  return openVolumeBook(data, { databases: database === undefined ? [] : [database] });
}

/** A record as it is shown: numbers that JSON cannot hold are text. */
const shown = ({ epoch, anchor, time, ...record }: VolumeRecord) => ({
  ...record,
  epoch: String(epoch),
  anchor: String(anchor),
  changed: new Date(time).toISOString(),
});

const stateOf = ({ state, suspect }: VolumeRecord): string => (suspect ? "suspect" : state);

const line = (record: VolumeRecord): string =>
  [
    record.volume.slice(0, 16),
    stateOf(record).padEnd(8),
    `${record.epoch} ${record.epoch === 1n ? "opening" : "openings"}`,
    new Date(record.time).toISOString(),
    `${record.name} of ${record.owner}, seed ${record.seed}`,
  ].join("  ");

/** Does something with the book at the place that the options name. */
async function withBook(options: Where, use: (book: VolumeBook) => Promise<void>): Promise<void> {
  const book = await openBook(options);
  try {
    await use(book);
  } finally {
    await book.close();
  }
}

/** A command about one volume. */
const about = (
  name: string,
  description: string,
  use: (book: VolumeBook, id: string, json?: boolean) => Promise<void>,
) =>
  new Command(name)
    .description(description)
    .argument("<ID>", "its id, or 8 digits of its beginning at least")
    .requiredOption(...dataOption)
    .option(...databaseOption)
    .option("--json", "one JSON document")
    .action((id: string, options: Where) => withBook(options, (book) => use(book, id, options.json)));

const list = new Command("list")
  .description("every volume: id, state, how often it was opened, last change, name, owner and instance seed")
  .requiredOption(...dataOption)
  .option(...databaseOption)
  .option("--json", "one JSON document")
  .action((options: Where) =>
    withBook(options, async (book) => {
      const records = await book.list();
      const lines = records.length === 0 ? ["no volume was ever opened"] : records.map(line);
      answer(options.json, { volumes: records.map(shown) }, lines.join("\n"));
    }),
  );

const show = about("show", "everything that is known of one volume", async (book, id, json) => {
  const found = shown(await book.find(id));
  const lines = Object.entries(found).map(([name, value]) => `${name.padEnd(14)}${value}`);
  answer(json, found, lines.join("\n"));
});

const action = (name: OperatorAction, description: string): Command =>
  about(name, description, async (book, id, json) => {
    const record = await book.operate(id, name);
    answer(json, shown(record), line(record));
  });

const marked = new Command("restored")
  .description(
    "say that the database comes from a backup: every volume is suspect, and no epoch is given out again",
  )
  .requiredOption(...dataOption)
  .option(...databaseOption)
  .addOption(restoredBefore())
  .action(async (options: RestoreOptions) => {
    const count = await restoreFrom(join(options.data, "database"), options);
    process.stdout.write(`${count} volumes wait for an operator\n`);
  });

export const volumeCommand = new Command("volume")
  .description("persistent volumes: what is known of them, and an operator's word")
  .addCommand(list)
  .addCommand(show)
  .addCommand(marked)
  .addCommand(
    action("allow", "let a suspect volume be opened: you know that its disk is the newest there is"),
  )
  .addCommand(action("suspect", "refuse every opening until it is allowed again; who has it open goes on"))
  .addCommand(
    action("delete", "forget it: nobody opens it again, and the next start makes a new, empty one"),
  );
