// SPDX-License-Identifier: Apache-2.0
/** `caisson` as an npm package: the commands that need neither Linux nor this repository. */
import ownPackage from "../../../package.json" with { type: "json" };
import { jsonText } from "./views/answer.ts";

const leastNode = 26;
if (Number(process.versions.node.split(".")[0]) < leastNode) {
  process.stderr.write(
    `caisson: this is Node ${process.version}; the command needs Node ${leastNode} or newer\n`,
  );
  process.exitCode = 20;
} else {
  const [{ run }, { portableCommands }] = await Promise.all([
    import("./run.ts"),
    import("./portable-commands.ts"),
  ]);
  const edition = {
    commands: portableCommands,
    help: "These judge and predict, wherever Node 26 runs. Everything else is in the repository, for Linux on x86-64.",
    others: "; all others are in Caisson's repository, for Linux on x86-64",
    version: async (json: boolean) =>
      json ? jsonText({ version: ownPackage.version }) : `caisson ${ownPackage.version}\n`,
  };
  await run(edition, process.argv.slice(2));
}
