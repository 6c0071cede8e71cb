// SPDX-License-Identifier: Apache-2.0
/**
 * Production images of `examples/kms`, one on a volume: built as its page says, they pass their audit, and start
 * nothing without a TEE.
 */
import { deepEqual, equal } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { before, test } from "node:test";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { type Built, readSpec } from "@caisson/image";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { persistentVolumes } from "@caisson/protocol/guest-config";
import { temporaryDirectory } from "@caisson/vocabulary/testing/temporary-directory";
import { attack } from "../support/hostile.ts";
import { production } from "../support/image.ts";
import { onVolume, writeKms } from "../support/kms-guest.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = temporaryDirectory("kms-production");

let all: Built[];
before(async () => {
  const owners = await DevelopmentOwners.open(join(place, "owners"), "kms");
  const peers = {
    version: "caisson/policy/v1",
    tcb: { minimumEvaluationNumber: 18 },
    platformIdentities: "any",
    registers: { rtmr0: "by-event" },
    app: { identity: { id: owners.id }, instanceId: "any" },
  };
  const build = async (name: string, files: Readonly<Record<string, string>>, spec?: string) => {
    const directory = join(place, name);
    await writeKms(directory, files, owners.identity, spec);
    return prepare(await readSpec(directory), "production", {}, new Progress());
  };
  all = [await build("kms", { "peers.json": JSON.stringify(peers) }), await build("volume", {}, onVolume)];
});

test("they are production images with their owners' identity, and every required control of their audit holds", () => {
  deepEqual(
    all.map(({ manifest }) => persistentVolumes(manifest.guest.app)),
    [[], ["data"]],
  );
  for (const { manifest, directory } of all) {
    equal(manifest.flavour, "production");
    equal(manifest.guest.app.identity === undefined, false);
    // Exit code 0: nothing that is required failed.
    execFileSync(join(repository, "caisson"), ["audit", directory], { stdio: "ignore", timeout: 120_000 });
  }
});

test("a machine without a TEE ends before it makes a root secret", async () => {
  for (const built of all) {
    const ending = await attack({ machine: await production(built) });
    equal(ending.reason, "posture/no-tee", ending.message);
  }
});
