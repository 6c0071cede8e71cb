/**
 * `caisson up --platform tdx`: everything up to the point where hardware is needed. Builds the production image, writes
 * the instance document, checks the host, and gives QEMU's exact arguments.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Shape, type TdxParts, tdxMachine } from "@caisson/host/machine";
import { type Prerequisite, tdxPrerequisites } from "@caisson/host/tdx";
import { type Manifest } from "@caisson/image";
import { canonicalJson } from "@caisson/protocol/canonical-json";
import { composeHash } from "@caisson/protocol/identity";
import { encodeInstance, type Instance } from "@caisson/protocol/instance";

/** Vsock port of Intel's quote generation service, its default. */
const quotePort = 4050;

export interface TdxLaunch {
  /** QEMU's arguments; the program is `qemu-system-x86_64`, 10.1 or newer. */
  arguments: string[];
  prerequisites: Prerequisite[];
  /** 48 bytes, hex: what a verifier expects in MRCONFIGID. */
  mrConfigId: string;
}

/**
 * MRCONFIGID of an image: 01 ‖ compose hash ‖ zeros, 48 bytes. The host sets it, the quote carries it, so a verifier
 * sees before the first event which application the host meant to start.
 */
export function mrConfigId(manifest: Manifest): Uint8Array {
  const value = new Uint8Array(48);
  value[0] = 1;
  value.set(composeHash(new TextEncoder().encode(canonicalJson(manifest.guest.app))), 1);
  return value;
}

/** Writes what the machine needs into `<image>.state/` and says how to start it, and what the host lacks for that. */
export async function prepareTdx(
  image: string,
  manifest: Manifest,
  shape: Shape,
  instance: Instance,
  port: number,
): Promise<TdxLaunch> {
  const state = `${image}.state`;
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const device = join(state, "instance.img");
  writeFileSync(device, encodeInstance(instance));
  const id = mrConfigId(manifest);
  const parts: TdxParts = {
    kernel: join(image, manifest.kernel.file),
    commandLine: manifest.commandLine,
    rootfs: join(image, manifest.rootfs.file),
    instance: device,
    qmpSocket: join(state, "qmp.sock"),
    forwards: [{ host: port, guest: manifest.guest.app.port }],
    firmware: join(image, manifest.firmware.tdx.file),
    mrConfigId: id,
    quotePort,
  };
  return {
    arguments: tdxMachine(shape, parts),
    prerequisites: await tdxPrerequisites(),
    mrConfigId: Buffer.from(id).toString("hex"),
  };
}

/** An argument as a POSIX shell reads it. */
const quoted = (argument: string): string =>
  /^[\w./=,:-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;

/** The same for a person: what the host has and lacks, what the quote will say, and the command. */
export function renderTdxLaunch(image: string, launch: TdxLaunch): string {
  const host = launch.prerequisites.flatMap(({ name, ok, found, fix }) => [
    `${ok ? "✔" : "✘"} ${name.padEnd(16)} ${found}`,
    ...(ok ? [] : [`${" ".repeat(18)} → ${fix}`]),
  ]);
  const missing = launch.prerequisites.filter(({ ok }) => !ok).map(({ name }) => name);
  const verdict =
    missing.length === 0
      ? "This host has what a trust domain needs, if a quoting service listens. This starts the image:"
      : `This host cannot start a trust domain (${missing.join(", ")}). On one that can, this starts the image:`;
  const command = ["qemu-system-x86_64"];
  for (const argument of launch.arguments) {
    if (/^-[a-z]/.test(argument)) command.push(`  ${argument}`);
    else command.push(`${command.pop()!} ${quoted(argument)}`);
  }
  return `${[
    `image       ${image}`,
    `MRCONFIGID  ${launch.mrConfigId}`,
    "",
    ...host,
    "",
    verdict,
    "",
    command.join(" \\\n"),
  ].join("\n")}\n`;
}
