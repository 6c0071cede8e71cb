// SPDX-License-Identifier: Apache-2.0
/** What differs between the `caisson` of this repository and that of the npm package. */
import type { Command } from "commander";

export type Commands = Record<string, [summary: string, load: () => Promise<{ command: Command }>]>;

export interface Edition {
  commands: Commands;
  /** A last paragraph of the help. */
  help: string;
  /** Where the commands are that this edition has not: follows "caisson --help lists them". */
  others?: string;
  /** What `--version` prints, as text or JSON. */
  version: (json: boolean) => Promise<string>;
}
