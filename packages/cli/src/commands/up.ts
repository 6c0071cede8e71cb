// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson up SPEC`: the main job. Pins and builds what is missing, boots the image, shows its stages, its keys and
 * its application, verifies its evidence from outside, and keeps it running until it ends or Ctrl-C. What the application
 * serves, or whether it serves anything, does not matter.
 */

import { join } from "node:path";
import type { Shape } from "@caisson/host/machine";
import { tdxPrerequisites } from "@caisson/host/tdx";
import { imageDirectory, type Manifest, readSpec } from "@caisson/image";
import { DevelopmentOwners } from "@caisson/machine/development-owners";
import { predictEmulated, referenceValues } from "@caisson/machine/prediction";
import { judgeFresh } from "@caisson/machine/relying-party";
import { type Session, startSession } from "@caisson/machine/session";
import { type Report, readPolicy, readReferences } from "@caisson/verify";
import { firstBytes } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import { type Platform, type PlatformTable, platforms } from "@caisson/vocabulary/platforms";
import { Command, Option } from "commander";
import { judgeEnd, say, summary, untilReady, watch } from "../boot-watch.ts";
import { exitCodes } from "../exit-codes.ts";
import { UsageError } from "../failure.ts";
import { interruption } from "../interruption.ts";
import { checkPort, memoryOption } from "../machine-options.ts";
import { whole } from "../number-options.ts";
import { exampleOf, servePage } from "../page-server.ts";
import { prepare } from "../prepare.ts";
import { runProduction } from "../production-run.ts";
import { jsonText } from "../views/answer.ts";
import { renderPrerequisites, renderProduction } from "../views/production-view.ts";
import { formatBytes, Progress } from "../views/progress.ts";
import { type ProductionChoices, prepareMachine, readStapled, withProductionOptions } from "./instance.ts";

interface Options extends ProductionChoices {
  mirror?: string;
  once?: boolean;
  platform: Platform;
  json?: boolean;
}

const answerLimitMs = 30_000;

/**
 * What the application answers at its root, if that is HTTP. It is not trusted: it neither sends us elsewhere nor fills
 * our memory.
 */
async function ask(url: string): Promise<{ url: string; status?: number; body?: string; error?: string }> {
  try {
    const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(answerLimitMs) });
    const { bytes } = await firstBytes(response.body, 4096);
    return { url, status: response.status, body: new TextDecoder().decode(bytes) };
  } catch (error) {
    return { url, error: messageOf(error) };
  }
}

/** What an outsider finds, who has the image and gave the machine a challenge. */
async function verify(session: Session): Promise<Report> {
  return judgeFresh(await session.evidence(), {
    policy: readPolicy(session.policy),
    references: readReferences(session.references, "the prediction for this image"),
    collateral: session.collateral,
    now: new Date(),
  });
}

/** Where everything is reached that is published, if that is more than one port. */
function portLines({ ports }: Pick<Session, "ports">): string[] {
  if (ports.length < 2) return [];
  const width = Math.max(...ports.map(({ service }) => service.length));
  return ports.map(
    ({ service, protocol, published, host }) =>
      `  ${service.padEnd(width)}  ${published}/${protocol} is 127.0.0.1:${host}`,
  );
}

/** What is done with the disk of a volume. */
const volumeLine = ({ name, path, size, used, state }: Session["volumes"][number]): string =>
  `volume ${name}: ${state} ${path}, ${formatBytes(size)}, of which ${formatBytes(used)} take room here`;

/** Throws UsageError when a service may use more memory than there is: it would take the machine down with it. */
function checkMemory({ guest }: Manifest, { memory }: Shape): void {
  for (const [name, service] of Object.entries(guest.app.services)) {
    const limit = service.memory / 2 ** 20;
    if (limit <= memory) continue;
    throw new UsageError(
      `${name} may use ${limit} MiB of memory, and the machine has ${memory} MiB`,
      `--memory ${limit + 512}, or a smaller limit in the spec`,
    );
  }
}

/**
 * The host is looked at first, since a build takes long; the image is built whatever it lacks, to be started elsewhere.
 * Exit code 20 says that this host cannot start a TD; what is missing stands in the list.
 */
async function prepareForTdx(path: string, options: Options): Promise<void> {
  const interrupted = interruption();
  if (options.collateral !== undefined) await readStapled(options.collateral);
  const spec = await readSpec(path);
  const prerequisites = await tdxPrerequisites("/", options.qemu);
  const said = options.json === true ? process.stderr : process.stdout;
  said.write(`${renderPrerequisites(prerequisites)}\n`);
  const { directory, manifest } = await prepare(
    spec,
    "production",
    { mirror: options.mirror, signal: interrupted },
    new Progress(),
  );
  const production = await prepareMachine(directory, options);
  interrupted.throwIfAborted();
  process.stdout.write(
    options.json === true
      ? jsonText({ image: directory, ...production, prerequisites })
      : renderProduction(directory, production),
  );
  if (prerequisites.some(({ ok }) => !ok)) process.exitCode = exitCodes.unsupported;
  else await runProduction({ ...options, image: directory, manifest, production }, interrupted);
}

const starters: PlatformTable<(path: string, options: Options) => Promise<void>> = {
  tdx: prepareForTdx,
  emulated: startEmulated,
};

export const command = withProductionOptions(
  new Command("caisson up")
    .description(
      "Pins and builds what is missing, boots the image, shows its stages, releases its keys, verifies its evidence, and runs it until it ends or Ctrl-C.",
    )
    .argument("<spec>", "a caisson.yaml, or the directory that has one")
    .option("--vcpus <n>", "virtual processors", whole(1, 64), 2)
    .addOption(memoryOption())
    .option("--port <n>", "the application's port on 127.0.0.1 (default: a free one)", whole(1, 65_535))
    .option(
      "--mirror <uri>",
      "the Debian mirror (default: CAISSON_MIRROR, or the machine's apt configuration)",
    )
    .option("--once", "end when the evidence is verified")
    .addOption(
      new Option(
        "--platform <name>",
        "emulated: a development image, anywhere; tdx: prepare a production image's start",
      )
        .choices(platforms)
        .default("emulated"),
    )
    .option("--json", "one JSON document when the application is up"),
).action((path: string, options: Options) => starters[options.platform](path, options));

/** Builds what is missing and starts it. */
async function begin(path: string, options: Options, interrupted: AbortSignal) {
  const shape = { vcpus: options.vcpus, memory: options.memory };
  if (options.port !== undefined) await checkPort(options.port);
  const spec = await readSpec(path);
  const owners = await DevelopmentOwners.open(`${imageDirectory(spec, "development")}.state`, spec.name);
  const { directory, manifest } = await prepare(
    spec,
    "development",
    { mirror: options.mirror, signal: interrupted, identity: owners.identity },
    new Progress(),
  );
  checkMemory(manifest, shape);
  const prediction = await predictEmulated(directory, shape);
  const session = await startSession({
    image: directory,
    manifest,
    shape,
    references: referenceValues(prediction),
    owners,
    ...(options.port && { port: options.port }),
  });
  return { session, shape, directory, name: manifest.name, prediction };
}

/** Shows the boot of a machine that was just started, with the release under which it gets keys. */
function show(session: Session, name: string, { vcpus, memory }: Shape): ReturnType<typeof watch> {
  say(`${name}: ${vcpus} vCPUs, ${memory} MiB, ${session.accelerator.toUpperCase()}, TDX emulated`);
  const view = watch(session.vm);
  for (const disk of session.volumes) say(volumeLine(disk));
  const { number, app, secrets } = session.release!;
  view.before(
    "release",
    `release ${number} of application ${app.slice(0, 16)}…, signed by the development owner`,
  );
  if (secrets.length > 0) {
    view.before("secrets", `${secrets.join(", ")} sealed to the KMS; values in ${session.state}/secrets`);
  }
  return view;
}

/** `listens`: whether the application does, at the port that its spec names. */
function whereabouts(url: string | undefined, listens: boolean): string {
  if (url === undefined) return "runs";
  return listens ? `answers at ${url}` : `runs; nothing listens at ${url} (is app.port right?)`;
}

async function startEmulated(path: string, options: Options): Promise<void> {
  const interrupted = interruption();
  const { session, shape, directory, name, prediction } = await begin(path, options, interrupted);
  try {
    const { vm, url, accelerator } = session;
    const view = show(session, name, shape);
    const log = join(session.state, "console.log");
    const { ready, ended } = await untilReady(vm, view, interrupted, log);

    const verification = await verify(session);
    say(`\n${summary(verification)}`);
    const hint = options.once === true ? "" : "   (Ctrl-C ends it)";
    say(`${name} ${whereabouts(url, ready.port !== undefined)}${hint}`);
    for (const line of portLines(session)) say(line);
    if (options.json === true) {
      const app = url === undefined ? {} : await ask(url);
      const document = { image: directory, shape, accelerator, ...view.record, app, verification };
      process.stdout.write(jsonText(document));
    }
    if (verification.verdict !== "accepted") process.exitCode = exitCodes.rejected;
    if (options.once === true) return;
    const page = await servePage(async () => {
      const { buildPage } = await import("@caisson/page");
      return buildPage([await exampleOf(session, name, prediction)]);
    });
    say(`judge it yourself: ${page.url}   (the verifier page, with its evidence)`);
    await ended;
    page.close();
    if (interrupted.aborted) say("stopping the machine");
    else judgeEnd(vm, log);
  } finally {
    await session.stop();
  }
}
