// SPDX-License-Identifier: Apache-2.0
/** Where in the audited files a finding can be seen: the line of the kernel's configuration, or of the description. */
import type { Control, ControlGroup } from "./control.ts";
import type { Subject } from "./provenance.ts";

export interface Place {
  /** A path or an address. */
  path: string;
  /** From 1. */
  line?: number;
}

/** Keys of a manifest that say what a group of controls judges. */
const manifestKeys: Partial<Record<ControlGroup, string>> = {
  "command line": "commandLine",
  firmware: "firmware",
  "file system": "rootfs",
  "user space": "rootfs",
  randomness: "commandLine",
  time: "guest",
  devices: "guest",
  network: "guest",
  container: "guest",
  "key release": "guest",
};

/** The subject itself where no line of it says more. */
export function placeOf({ group }: Control, details: readonly string[], subject: Subject): Place {
  const { name, manifest, kernelConfig } = subject;
  const symbol = /\bCONFIG_\w+/.exec(details.join(" "))?.[0];
  if (symbol !== undefined && kernelConfig !== undefined) {
    const line = new RegExp(`^(?:# )?${symbol}(?:=| is not set)`);
    // A symbol that is not there is none that could be set: the whole file says so.
    return { path: kernelConfig.path, ...lineOf(kernelConfig.text, line) };
  }
  const key = manifestKeys[group];
  if (manifest === undefined || key === undefined) return { path: name };
  return { path: manifest.path, ...lineOf(manifest.text, new RegExp(`^  "${key}":`)) };
}

function lineOf(text: string, pattern: RegExp): { line?: number } {
  const index = text.split("\n").findIndex((line) => pattern.test(line));
  return index < 0 ? {} : { line: index + 1 };
}
