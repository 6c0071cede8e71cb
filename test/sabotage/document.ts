// SPDX-License-Identifier: Apache-2.0
/** docs/sabotage.md: what each sabotage led to. Only what was measured stands there, with file and test as they are. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Results } from "./results.ts";
import { type Sabotage, tierOf } from "./sabotage.ts";

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const code = (text: string): string => (text === "" ? "(nothing)" : `\`${cell(text).replaceAll("`", "'")}\``);

export function writeDocument(repository: string, sabotages: readonly Sabotage[], results: Results): void {
  const rooms = new Map<string, string[]>();
  const counts = { noticed: 0, late: 0, survived: 0, unmeasured: 0 };
  for (const sabotage of sabotages) {
    const result = results.get(sabotage);
    counts[result?.outcome ?? "unmeasured"]++;
    const room = /^(packages\/[^/]+|[^/]+)/.exec(sabotage.file)![1]!;
    const rows = rooms.get(room) ?? [];
    rooms.set(room, rows);
    const file = sabotage.file.slice(room.length + 1).replace(/^src\//, "");
    const found =
      result === undefined
        ? "not measured"
        : `${result.outcome}${result.by === undefined ? "" : `: ${cell(result.by)}`}`;
    rows.push(
      `| ${cell(sabotage.what)} | \`${file}\` | ${code(sabotage.line)} → ${code(sabotage.instead)} | ${tierOf(sabotage.test)} | ${found} |`,
    );
  }
  const head = `# Sabotage

Lines of the product that are made wrong, one at a time, and the test that notices. The lists are in \`test/sabotage/list/\`, a file a package; a unit test says when a listed line has gone.

\`\`\`
node test/sabotage/run.ts                 # those that unit tests notice, in copies of the tree
node test/sabotage/run.ts --tier all      # all; some compile the driver with the pinned toolchain
node test/sabotage/run.ts entropy --fresh # some, measured again
\`\`\`

A run that was ended goes on where it was: a result counts for as long as the file and its test are the same. The exit code is 1 when something survived. This table is written by \`--write\`, from what was measured.

${sabotages.length} sabotages: ${counts.noticed} noticed, ${counts.late} by a time limit alone, ${counts.survived} survived, ${counts.unmeasured} not measured.
`;
  const parts = [...rooms].map(
    ([room, rows]) =>
      `\n## ${room}\n\n| what is wrong | file | line | tier | outcome, and the first test that says so |\n|---|---|---|---|---|\n${rows.join("\n")}\n`,
  );
  writeFileSync(join(repository, "docs/sabotage.md"), head + parts.join(""));
}
