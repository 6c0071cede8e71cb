// SPDX-License-Identifier: Apache-2.0
/** `caisson connect URL`: a door on this machine, for curl and everything else, to a guest that is verified first and again. */
import { type DoorOptions, openDoor, parsePlace } from "@caisson/client/connect";
import { Command, Option } from "commander";
import { Interrupted } from "../failure.ts";
import { filesOf, type JudgedBy, judgementOf } from "../judged-by.ts";
import { whole } from "../number-options.ts";

interface Options extends JudgedBy {
  listen: string;
  way: "any" | "tls" | "tunnel";
  maximumAge: number;
  json?: boolean;
}

export const command = new Command("caisson connect")
  .description(
    "Opens a plain HTTP door on this machine; what goes in comes out in the guest, which is verified before and again on schedule.",
  )
  .argument("<url>", "https address of a guest with a front")
  .option("--listen <place>", "a loopback address and port, or the path of a Unix socket", "127.0.0.1:8443")
  .option("--policy <file>", "what is acceptable (YAML or JSON)")
  .option("--image <file...>", "reference values, or an image directory that `caisson up` ran from", [])
  .option("--kit <dir>", "policy, reference values and collateral from a kit that caisson publish wrote")
  .option("--collateral <file>", "the vendor's collateral, where the evidence carries none")
  .option("--revocation <file...>", "revocations of its releases that are known here", [])
  .addOption(
    new Option("--way <way>", "TLS that ends in the guest, requests sealed to it, or whichever works")
      .choices(["any", "tls", "tunnel"])
      .default("any"),
  )
  .option("--maximum-age <seconds>", "verify again after this long", whole(10, 86_400), 600)
  .option("--json", "one JSON document when the door is open")
  .action(async (url: string, given: Options) => {
    const options = filesOf(given);
    const judgement = await judgementOf(options, new Date());
    const door = await openDoor(url, parsePlace(options.listen), {
      ...judgement,
      maximumAge: options.maximumAge * 1000,
      ...(options.way !== "any" && { ways: [options.way] }),
      attested: ({ way, until, report }) => {
        const how =
          way === "tls" ? "TLS ends in the guest" : "requests are sealed to the guest (TLS ends earlier)";
        const passed = report.checks.filter(({ outcome }) => outcome === "pass").length;
        process.stderr.write(
          `verified: ${passed} checks passed; ${how}; until ${new Date(until).toISOString()}\n`,
        );
      },
    } satisfies DoorOptions);
    if (options.json === true) process.stdout.write(`${JSON.stringify({ door: door.url, guest: url })}\n`);
    else process.stderr.write(`${door.url} leads to ${url}   (Ctrl-C closes it)\n`);
    const signal = await new Promise<NodeJS.Signals>((resolve) => {
      process.once("SIGINT", resolve).once("SIGTERM", resolve);
    });
    door.close();
    throw new Interrupted(signal);
  });
