// SPDX-License-Identifier: Apache-2.0
/** A software TPM 2.0 for one machine: fresh state, SHA-256 and SHA-384 banks, served on a Unix socket. */
import type { ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { exited, start, waitForSocket } from "./child.ts";
import { HostError } from "./errors.ts";

export interface Tpm {
  readonly socket: string;
  readonly process: ChildProcess;
}

/** Makes the state below `directory` (which must exist) and starts swtpm. It ends when QEMU disconnects. */
export async function startTpm(directory: string): Promise<Tpm> {
  const state = join(directory, "tpm");
  const socket = join(directory, "tpm.sock");
  mkdirSync(state, { mode: 0o700 });
  const setup = await start(
    "swtpm_setup",
    ["--tpm2", "--tpmstate", state, "--pcr-banks", "sha256,sha384", "--config", "/dev/null"],
    "swtpm-tools",
    { env: { ...process.env, XDG_CONFIG_HOME: directory } },
  );
  const output = Promise.all([buffer(setup.stdout!), buffer(setup.stderr!)]);
  const status = await exited(setup);
  if (status !== 0) {
    const said = Buffer.concat(await output)
      .toString("utf8")
      .trim();
    throw new HostError("host/program-failed", `swtpm_setup ended with ${status}`, {
      facts: [["said", said]],
    });
  }
  const args = [
    "socket",
    "--tpm2",
    "--tpmstate",
    `dir=${state}`,
    "--ctrl",
    `type=unixio,path=${socket}`,
    "--terminate",
  ];
  const tpm = await start("swtpm", args, "swtpm", { stdio: "ignore" });
  await waitForSocket(socket, tpm);
  return { socket, process: tpm };
}
