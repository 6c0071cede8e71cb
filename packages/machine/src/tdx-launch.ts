/**
 * `caisson up --platform tdx`: everything up to the point where hardware is needed. Says what the host has and lacks,
 * writes the instance document, and gives QEMU's exact arguments.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Shape, type TdxParts, tdxMachine } from "@caisson/host/machine";
import type { Prerequisite } from "@caisson/host/tdx";
import { type Manifest } from "@caisson/image";
import { description, mainPort, publishedPorts } from "@caisson/protocol/guest-config";
import { composeHash } from "@caisson/protocol/identity";
import { encodeInstance } from "@caisson/protocol/instance";
import { instanceSeed } from "./session.ts";

/** Vsock port of Intel's quote generation service, its default. */
const quotePort = 4050;

export interface TdxLaunch {
  /** QEMU's arguments; the program is `qemu-system-x86_64`, 10.1 or newer. */
  arguments: string[];
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
  value.set(composeHash(description(manifest.guest)), 1);
  return value;
}

/** Writes what the machine needs into `<image>.state/` and says how to start it. The instance is the same each time. */
export function prepareTdx(image: string, manifest: Manifest, shape: Shape, port?: number): TdxLaunch {
  const state = `${image}.state`;
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const device = join(state, "instance.img");
  writeFileSync(device, encodeInstance({ version: "caisson/instance/v1", seed: instanceSeed(state) }));
  const id = mrConfigId(manifest);
  const main = mainPort(manifest.guest.app);
  const parts: TdxParts = {
    kernel: join(image, manifest.kernel.file),
    commandLine: manifest.commandLine,
    rootfs: join(image, manifest.rootfs.file),
    instance: device,
    qmpSocket: join(state, "qmp.sock"),
    forwards: publishedPorts(manifest.guest.app).map(({ protocol, published }) => ({
      protocol,
      host: protocol === "tcp" && published === main ? (port ?? published) : published,
      guest: published,
    })),
    firmware: join(image, manifest.firmware.tdx.code.file),
    mrConfigId: id,
    quotePort,
  };
  return {
    arguments: tdxMachine(shape, parts),
    mrConfigId: Buffer.from(id).toString("hex"),
  };
}

/** An argument as a POSIX shell reads it. */
const quoted = (argument: string): string =>
  /^[\w./=,:-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;

/** For a person: what the host has and lacks. */
export function renderPrerequisites(prerequisites: readonly Prerequisite[]): string {
  const lines = prerequisites.flatMap(({ name, ok, found, fix }) => [
    `${ok ? "✔" : "✘"} ${name.padEnd(16)} ${found}`,
    ...(ok ? [] : [`${" ".repeat(18)} → ${fix}`]),
  ]);
  const missing = prerequisites.filter(({ ok }) => !ok).map(({ name }) => name);
  const verdict =
    missing.length === 0
      ? "This host has what a trust domain needs, if a quoting service listens."
      : `This host cannot start a trust domain (${missing.join(", ")}). The image is built for one that can.`;
  return `${[...lines, "", verdict].join("\n")}\n`;
}

/** For a person: what the quote will say, and the command. */
export function renderTdxLaunch(image: string, launch: TdxLaunch): string {
  const command = ["qemu-system-x86_64"];
  for (const argument of launch.arguments) {
    if (/^-[a-z]/.test(argument)) command.push(`  ${argument}`);
    else command.push(`${command.pop()!} ${quoted(argument)}`);
  }
  return `${[
    `image       ${image}`,
    `MRCONFIGID  ${launch.mrConfigId}`,
    "",
    "This starts the image, on a host that can:",
    "",
    command.join(" \\\n"),
  ].join("\n")}\n`;
}
