// SPDX-License-Identifier: Apache-2.0
/**
 * Our production image and a stock Debian with its cloud kernel, audited alike (`caisson audit DIRECTORY`), and how much
 * there is in each. What Debian has no part of (sandbox, firmware, build record) is not judged and counts nowhere.
 */
import { join } from "node:path";
import {
  type Audit,
  audit,
  collectImage,
  collectRootTree,
  fetchLiveReport,
  type Inventory,
} from "@caisson/audit";
import type { Row } from "@caisson/cli/commands/bench";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { readSpec } from "@caisson/image";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import { startSession } from "@caisson/machine/session";
import { debian, waitingSockets } from "./peer/debian.ts";

const shape = { vcpus: 2, memory: 1024 };
const mebibyte = 1024 * 1024;

/** What the development image, which runs here, has waiting beside its application. */
async function ourSockets(directory: string, manifest: Awaited<ReturnType<typeof prepare>>["manifest"]) {
  const references = referenceValues(await predictEmulated(directory, shape));
  const session = await startSession({ image: directory, manifest, shape, references, limitMs: 300_000 });
  try {
    if ((await session.vm.event(({ kind }) => kind === "ready")) === undefined)
      throw new Error("the machine did not come up");
    return audit({ live: await fetchLiveReport(session.url!) }, [], new Date()).inventory.live!.listening;
  } finally {
    await session.stop();
  }
}

const count = ({ rows }: Audit, status: string): number =>
  rows.filter(({ results }) => results[0]!.status === status).length;

export async function* run(): AsyncIterable<Row> {
  const spec = await readSpec(new URL("../examples/hello", import.meta.url).pathname);
  const progress = new Progress();
  const production = await prepare(spec, "production", {}, progress);
  const development = await prepare(spec, "development", {}, progress);
  progress.show("peer", "a stock Debian, with mmdebstrap");
  const peer = debian();
  if (peer === undefined) throw new Error("mmdebstrap cannot be had here: there is nothing to compare with");
  progress.done();

  const now = new Date();
  const ours = audit({ static: await collectImage(production.directory) }, [], now);
  const theirs = audit({ static: collectRootTree(peer.root) }, [], now);
  const row = (name: string, unit: string, value: (one: Audit) => number, note?: string): Row => ({
    name: `controls: ${name}`,
    unit,
    ours: value(ours),
    peer: value(theirs),
    ...(note !== undefined && { note }),
  });
  const there = (name: string, unit: string, value: (one: NonNullable<Inventory["static"]>) => number) =>
    row(name, unit, ({ inventory }) => value(inventory.static!));

  yield row("passed", "controls", (one) => count(one, "pass"), "static checks; peer: minimal Debian");
  yield row("failed", "controls", (one) => count(one, "fail"));
  yield row("with nothing to judge", "controls", (one) => count(one, "not-applicable"));
  yield there("kernel symbols =y", "symbols", ({ builtIn }) => builtIn);
  yield there("kernel symbols =m", "symbols", ({ modules }) => modules);
  yield there("packages", "packages", ({ packages }) => packages);
  yield there("files", "files", ({ files }) => files);
  yield there("executables", "files", ({ executables }) => executables);
  yield there("setuid and setgid files", "files", ({ setuid }) => setuid);
  yield there("bytes, kernel included", "MiB", ({ bytes }) => Number((bytes / mebibyte).toFixed(1)));
  const firmware = join(development.directory, development.manifest.firmware.emulated.code.file);
  progress.show("sockets", "our guest and Debian, booted");
  const sockets = {
    ours: await ourSockets(development.directory, development.manifest),
    peer: await waitingSockets(peer, shape, firmware),
  };
  progress.done();
  yield { name: "controls: sockets that wait", unit: "sockets", ...sockets, note: "the application's apart" };
}
