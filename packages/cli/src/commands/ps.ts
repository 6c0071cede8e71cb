// SPDX-License-Identifier: Apache-2.0
/** `caisson ps SPEC`: the services of a development machine, and the state that each is in by the guest's own word. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { imageDirectory, type Manifest, readSpec } from "@caisson/image";
import { readManifest } from "@caisson/image/manifest";
import { type PublishedPort, portsFile, runsOn } from "@caisson/machine/state";
import type { ConsoleEvent } from "@caisson/protocol/console";
import { publishedPorts } from "@caisson/protocol/guest-config";
import { Command } from "commander";
import { consoleOf, readConsole } from "../console-log.ts";
import { jsonText } from "../views/answer.ts";
import { printable } from "../views/printable.ts";

export interface ServiceRow {
  service: string;
  /** As the guest last said it; "not started" before. */
  state: string;
  /** Seconds since the kernel's start when it came to be so. */
  since?: number;
  detail?: string;
  /** How often it was started. */
  starts: number;
  /** What is published, and the port of 127.0.0.1 that leads there while the machine runs. */
  ports: (ReturnType<typeof publishedPorts>[number] & { host?: number })[];
}

export interface Listing {
  services: ServiceRow[];
  /** What the machine said last about itself. */
  machine: string;
  /** Whether it runs on this host now: states are the last ones where it does not. */
  runs: boolean;
}

/** What a console says about an application's services; `hosts` are the ports of this host that lead to them. */
export async function list(
  app: Pick<Manifest["guest"]["app"], "services" | "front">,
  events: AsyncIterable<ConsoleEvent>,
  hosts: readonly PublishedPort[] = [],
  runs = true,
): Promise<Listing> {
  const ports = publishedPorts(app).map((port) => {
    const host = hosts.find(
      (one) => one.protocol === port.protocol && one.published === port.published,
    )?.host;
    return { ...port, ...(host !== undefined && { host }) };
  });
  const rows = new Map(
    Object.keys(app.services)
      .sort()
      .map((service): [string, ServiceRow] => [
        service,
        {
          service,
          state: "not started",
          starts: 0,
          ports: ports.filter((port) => port.service === service),
        },
      ]),
  );
  let machine = "starting";
  for await (const event of events) {
    if (event.kind === "ready") machine = "ready";
    if (event.kind === "stopping") machine = `stopped: ${event.reason}`;
    if (event.kind !== "service") continue;
    const row = rows.get(event.service);
    if (row === undefined) continue;
    row.state = event.state;
    row.since = event.at;
    if (event.detail === undefined) delete row.detail;
    else row.detail = event.detail;
    if (event.state === "running") row.starts++;
  }
  return { services: [...rows.values()], machine, runs };
}

const portText = ({ published, target, protocol, host }: ServiceRow["ports"][number]): string =>
  `${published}→${target}/${protocol}${host === undefined ? "" : ` at 127.0.0.1:${host}`}`;

/** The ports of this host that lead to a machine: none where none runs. */
function hostsOf(image: string): PublishedPort[] {
  const path = join(`${image}.state`, portsFile);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as PublishedPort[]) : [];
}

/** The listing for a person. */
export function render({ services, machine, runs }: Listing): string {
  const header = ["SERVICE", "STATE", "SINCE", "STARTS", "PORTS"];
  const body = services.map(({ service, state, since, detail, starts, ports }) => [
    service,
    printable(detail === undefined ? state : `${state} (${detail})`),
    since === undefined ? "" : `${since.toFixed(1)} s`,
    String(starts),
    ports.map(portText).join(", "),
  ]);
  const widths = header.map((name, at) => Math.max(name.length, ...body.map((row) => row[at]!.length)));
  const lines = [header, ...body].map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at]!))
      .join("  ")
      .trimEnd(),
  );
  const state = runs ? printable(machine) : `does not run; what it said last: ${printable(machine)}`;
  return `${[...lines, "", `the machine: ${state}`].join("\n")}\n`;
}

export const command = new Command("caisson ps")
  .description(
    "Lists the services of a spec's development machine with their states, by the guest's own word on its console, and where their ports are on this host.",
  )
  .argument("<spec>", "a caisson.yaml, or the directory that has one")
  .option("--json", "one JSON document")
  .action(async (path: string, options: { json?: boolean }) => {
    const console = await consoleOf(path, "development");
    const image = imageDirectory(await readSpec(path), "development");
    const runs = await runsOn(`${image}.state`);
    const listing = await list(
      readManifest(image).guest.app,
      readConsole(console),
      runs ? hostsOf(image) : [],
      runs,
    );
    process.stdout.write(options.json === true ? jsonText(listing) : render(listing));
  });
