// SPDX-License-Identifier: Apache-2.0
/** A witness of a KMS's own release log sees, by the commands alone, that the KMS was put back to an older copy. */
import { equal, match } from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { OwnerCommands } from "../support/owner-commands.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-kms-witness-"));
const owners = new OwnerCommands(place);
after(async () => {
  await owners.end();
  rmSync(place, { recursive: true, force: true });
});

test("a KMS that was put back does not go on from what its witness saw, and gets no cosignature", async () => {
  const { a } = await owners.keys("a", "stop");
  const logKey = await owners.run("log key log.example --output log.key");
  const log = await owners.serve("log serve --data log --key log.key");
  writeFileSync(join(place, "policy"), `log ${logKey}\nquorum none\n`);
  const operators = { threshold: 1, keys: [{ type: "ed25519", key: a.replace("ed25519:", "") }] };
  writeFileSync(join(place, "operators.json"), JSON.stringify(operators));
  const identity = await owners.run("kms init --data kms");
  /** The log that it follows grows, and so does its own: an entry for each larger tree. */
  const follows = async (name: string): Promise<void> => {
    await owners.run(`identity new --name ${name} --owner a --stop stop --output ${name}.json`);
    await owners.run(`release publish --identity ${name}.json --log ${log}`);
    const kms = new OwnerCommands(place);
    try {
      await kms.serve(`kms serve --data kms --operators operators.json --log ${log} --log-policy policy`);
    } finally {
      await kms.end();
    }
  };
  await follows("one");
  cpSync(join(place, "kms"), join(place, "yesterday"), { recursive: true });
  await follows("two");

  const checkpoint = "kms log checkpoint kms/release-log.sqlite --data kms";
  const { key, size } = JSON.parse(await owners.run(`${checkpoint} --json`)) as { key: string; size: number };
  equal(size, 3);
  const own = await owners.run("log key w.example --witness --output w.key");
  const witness = await owners.serve(`log witness --data seen --key w.key --log ${key}`);
  writeFileSync(join(place, "kms-policy"), `log ${key}\nwitness w ${own}\nquorum w\n`);
  const witnessed = `${checkpoint} --witness ${witness}=${own}`;
  writeFileSync(join(place, "seen.note"), `${await owners.run(witnessed)}\n`);
  const verify = `kms log verify kms/release-log.sqlite --identity ${identity} --checkpoint seen.note --log-policy kms-policy`;
  match(await owners.run(verify), /^whole: 3 entries/);

  rmSync(join(place, "kms"), { recursive: true });
  cpSync(join(place, "yesterday"), join(place, "kms"), { recursive: true });
  await owners.refused(10, "log/head", verify);
  match(await owners.says(75, witnessed), /^caisson\/kms\//);
});
