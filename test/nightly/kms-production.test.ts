// SPDX-License-Identifier: Apache-2.0
/** The production image of `examples/kms`: it is built as its page says, passes its audit, and starts nothing without a TEE. */
import { equal } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, readSpec } from "@caisson/image";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { attack } from "../support/hostile.ts";
import { production } from "../support/image.ts";
import { writeKms } from "../support/kms-guest.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-kms-production-"));
after(() => rmSync(place, { recursive: true }));

let built: Built;
before(async () => {
  const owners = await DevelopmentOwners.open(join(place, "owners"), "kms");
  const directory = join(place, "kms");
  const peers = {
    version: "caisson/policy/v1",
    tcb: { minimumEvaluationNumber: 18 },
    platformIdentities: "any",
    registers: { rtmr0: "by-event" },
    app: { identity: { id: owners.id }, instanceId: "any" },
  };
  await writeKms(directory, { "peers.json": JSON.stringify(peers) }, owners.identity);
  built = await prepare(await readSpec(directory), "production", {}, new Progress());
});

test("it is a production image with its owners' identity, and every required control of its audit holds", () => {
  const { flavour, guest } = built.manifest;
  equal(flavour, "production");
  equal(guest.app.identity === undefined, false);
  // Exit code 0: nothing that is required failed.
  execFileSync(join(repository, "caisson"), ["audit", built.directory], {
    stdio: "ignore",
    timeout: 120_000,
  });
});

test("a machine without a TEE ends before it makes a root secret", async () => {
  const ending = await attack({ machine: await production(built) });
  equal(ending.reason, "posture/no-tee", ending.message);
});
