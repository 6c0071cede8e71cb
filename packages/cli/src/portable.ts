// SPDX-License-Identifier: Apache-2.0
/** `caisson` as an npm package: the commands that need neither Linux nor this repository. */
import ownPackage from "../../../package.json" with { type: "json" };
import { portableCommands } from "./portable-commands.ts";
import { run } from "./run.ts";

const edition = {
  commands: portableCommands,
  help: "These judge and predict, wherever Node 26 runs. Everything else is in the repository, for Linux on x86-64.",
  version: async (json: boolean) =>
    json
      ? `${JSON.stringify({ version: ownPackage.version }, null, 2)}\n`
      : `caisson ${ownPackage.version}\n`,
};
await run(edition, process.argv.slice(2));
