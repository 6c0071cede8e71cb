// SPDX-License-Identifier: Apache-2.0
/** What the relying parties of a development machine accept: an outside verifier, and the KMS beside it. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "@caisson/image";
import {
  applicationId,
  bootSequenceOf,
  description,
  persistentVolumes,
} from "@caisson/protocol/guest-config";
import { composeHash } from "@caisson/protocol/identity";
import { toHex } from "@caisson/vocabulary/bytes";
import { makeDirectory } from "@caisson/vocabulary/directory";
import { bootEvents } from "@caisson/vocabulary/events";
import { writeWhole } from "./state.ts";

/** The registers that reference values leave open, and so the policy must, by name; RTMR0 by event where it can be. */
function openRegisters(references: object): Record<string, string> {
  const open = ["mrtd", "rtmr0", "rtmr1", "rtmr2"].filter((name) => !Object.hasOwn(references, name));
  const registers: Record<string, string> = Object.fromEntries(open.map((name) => [name, "any"]));
  if (registers.rtmr0 === undefined) return registers;
  if (Object.hasOwn(references, "rtmr0Events")) return { ...registers, rtmr0: "by-event" };
  return { ...registers, hostAcpi: "any" };
}

/** What a relying party of a development machine accepts: this image on the simulated platform, and nothing less. */
export function developmentPolicy(manifest: Manifest, references: object, root: string): object {
  return {
    version: "caisson/policy/v1",
    description: `${manifest.name}, development: the simulated platform proves nothing about hardware`,
    platforms: ["emulated"],
    simulatedRoot: root,
    tcb: { minimumEvaluationNumber: "any" },
    platformIdentities: "any",
    registers: openRegisters(references),
    app: applicationRules(manifest),
    ...volumesOf(manifest),
    secureTime: manifest.guest.time.secure_time ? { origins: ["instance"] } : { methods: ["nts", "none"] },
    events: { bootLog: "required", ...sequenceOf(manifest) },
  };
}

/** Which application: by the release of its identity, or by exactly this description. */
function applicationRules({ guest }: Manifest): object {
  const id = toHex(applicationId(guest));
  return guest.app.identity === undefined
    ? { id: [id], composeHash: [toHex(composeHash(description(guest)))], instanceId: "any" }
    : { identity: { id }, instanceId: "any" };
}

/** A policy's volumes, where the image has some. */
function volumesOf({ guest }: Manifest): { volumes?: object } {
  const names = persistentVolumes(guest.app);
  return names.length === 0 ? {} : { volumes: { names } };
}

/** A policy's sequence, where the image measures more than every image does. */
export function sequenceOf({ guest }: Manifest): { sequence?: readonly string[] } {
  const sequence = bootSequenceOf(guest.app);
  return sequence.length === bootEvents.length ? {} : { sequence };
}

/** The KMS's policy directory for this one application, made anew. */
export function writeKmsPolicy(state: string, manifest: Manifest, references: object, policy: object): void {
  const directory = join(state, "policies");
  rmSync(directory, { recursive: true, force: true });
  makeDirectory(join(directory, "manifests"));
  const text = JSON.stringify(references);
  writeWhole(join(directory, "manifests", "references.json"), text);
  const file = {
    version: "caisson/kms-policy/v1",
    app: toHex(applicationId(manifest.guest)),
    keyVersion: 1,
    ...volumeOwner(state, manifest),
    manifests: [createHash("sha256").update(text).digest("hex")],
    policy,
  };
  writeWhole(join(directory, `${manifest.name}.json`), JSON.stringify(file, null, 2));
}

/**
 * Whose volumes an image without an identity opens: those of the first that ran here. With an identity, later versions
 * are the same application by themselves.
 */
function volumeOwner(state: string, { guest }: Manifest): { volumeOwner?: string } {
  if (persistentVolumes(guest.app).length === 0 || guest.app.identity !== undefined) return {};
  const path = join(state, "volume-owner");
  if (!existsSync(path)) writeWhole(path, toHex(applicationId(guest)));
  return { volumeOwner: readFileSync(path, "utf8").trim() };
}
