// SPDX-License-Identifier: Apache-2.0
/**
 * The first 64 bytes that the kernel's generator gives in each of 20 boots of one image, as the entropy stage reads them
 * and a development image prints them. Statistics for the record: they can show that something is badly wrong, and
 * prove nothing about what is right.
 */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Row } from "@caisson/cli/commands/bench";
import { prepare } from "@caisson/cli/prepare";
import { Progress } from "@caisson/cli/views/progress";
import { readSpec } from "@caisson/image";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import { startSession } from "@caisson/machine/session";

const repository = new URL("../", import.meta.url).pathname;
const shape = { vcpus: 1, memory: 1024 };
const boots = 20;
const size = 64;
const said = /first bytes, thrown away: ([A-Za-z0-9+/=]+)$/;

interface Boots {
  blocks: Buffer[];
  /** Boots that ended before the entropy stage; where the console of each was kept is said on stderr. */
  failed: number;
}

async function firstBytes(): Promise<Boots> {
  const progress = new Progress();
  const spec = await readSpec(join(repository, "examples/hello"));
  const { directory, manifest } = await prepare(spec, "development", {}, progress);
  const references = referenceValues(await predictEmulated(directory, shape));
  const state = mkdtempSync(join(tmpdir(), "caisson-entropy-"));
  const result: Boots = { blocks: [], failed: 0 };
  try {
    for (let boot = 1; boot <= boots; boot++) {
      progress.show(`boot ${boot} of ${boots}`);
      const session = await startSession({
        image: directory,
        manifest,
        shape,
        references,
        state,
        limitMs: 180_000,
      });
      const note = await session.vm.event((event) => event.kind === "note" && said.test(event.text));
      session.vm.kill();
      await session.stop();
      if (note?.kind === "note") result.blocks.push(Buffer.from(said.exec(note.text)![1]!, "base64"));
      else {
        result.failed++;
        const kept = join(tmpdir(), `caisson-entropy-boot-${boot}.log`);
        copyFileSync(join(state, "console.log"), kept);
        progress.show(`boot ${boot} of ${boots}`, `ended before its entropy stage: ${kept}`);
      }
    }
    progress.done();
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
  return result;
}

export async function* run(): AsyncIterable<Row> {
  const { blocks, failed } = await firstBytes();
  const bytes = Buffer.concat(blocks);
  const ones = bytes.reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0);
  const counts = Array.from({ length: 256 }, () => 0);
  for (const byte of bytes) counts[byte]!++;
  const expected = bytes.length / 256;
  const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  const words = blocks.flatMap((block) =>
    Array.from({ length: size / 4 }, (_, i) => block.readUInt32LE(i * 4)),
  );
  yield { name: "entropy: boots", unit: "boots", ours: blocks.length };
  yield { name: "entropy: boots that ended before the stage", unit: "boots", ours: failed };
  yield {
    name: "entropy: distinct blocks of 64 bytes",
    unit: "blocks",
    ours: new Set(blocks.map((block) => block.toString("hex"))).size,
    limit: blocks.length,
  };
  yield {
    name: "entropy: share of ones",
    unit: "",
    ours: ones / (bytes.length * 8),
    limit: 0.5,
    note: "limit: expected",
  };
  yield {
    name: "entropy: chi-square of bytes, 255 degrees",
    unit: "",
    ours: chiSquare,
    limit: 255,
    note: "limit: expected",
  };
  yield {
    name: "entropy: distinct 32-bit words",
    unit: "words",
    ours: new Set(words).size,
    limit: words.length,
  };
}
