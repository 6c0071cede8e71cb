// SPDX-License-Identifier: Apache-2.0
/** `caisson manual`: the manual page, of what the commands say of themselves. */
import { Command } from "commander";
import ownPackage from "../../../../package.json" with { type: "json" };
import type { Edition } from "../edition.ts";
import { outlineOf } from "../outline.ts";
import { manualPage } from "../views/manual.ts";

export const commandFor = ({ commands }: Edition): Command =>
  new Command("caisson manual")
    .description(
      "Prints the manual page, of what the commands say of themselves: caisson manual > caisson.1; man ./caisson.1",
    )
    .action(async () => {
      process.stdout.write(manualPage(await outlineOf(commands), ownPackage.version));
    });
