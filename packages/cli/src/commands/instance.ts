// SPDX-License-Identifier: Apache-2.0
/**
 * `caisson instance IMAGE`: everything that a production machine of an image needs: the instance document that names its
 * KMS, the policies that accept it, and the command that starts it. `up --platform tdx` does the same after the build.
 */
import { resolve } from "node:path";
import { readManifest } from "@caisson/image/manifest";
import { predictProduction } from "@caisson/machine/prediction";
import { type Production, prepareProduction, type StapledCollateral } from "@caisson/machine/production";
import { intelRoot, verifyCollateral } from "@caisson/verify";
import { Command } from "commander";
import { UsageError } from "../failure.ts";
import { readCollateralFile } from "../judgement-files.ts";
import { keyOf, kmsUrl } from "../kms/values.ts";
import { memoryOption } from "../machine-options.ts";
import { whole } from "../number-options.ts";
import { readGiven } from "../release-files.ts";
import { jsonText } from "../views/answer.ts";
import { renderProduction } from "../views/production-view.ts";

/** What the machine's host and KMS are; for `up --platform tdx`, too. */
export interface ProductionChoices {
  vcpus: number;
  /** MiB. */
  memory: number;
  port?: number;
  kms?: string;
  kmsIdentity?: string;
  qemu: string;
  acpi?: string;
  release?: string;
  secrets?: string;
  collateral?: string;
}

/** The options that say which KMS and which QEMU a production machine has. */
export function withProductionOptions(command: Command): Command {
  return command
    .option("--kms <URL>", "the KMS that the machine asks for its keys, as the machine reaches it", kmsUrl)
    .option("--kms-identity <HEX>", "its identity key; what the image pins when left out", keyOf)
    .option(
      "--release <FILE>",
      "the bundle of its release (caisson release bundle), for an image with an identity",
    )
    .option(
      "--secrets <FILE>",
      "its owners' sealed secrets (caisson secrets), for an image that declares some",
    )
    .option(
      "--collateral <FILE>",
      "Intel's collateral for the host (caisson collateral fetch), which the machine's evidence then carries",
    )
    .option(
      "--qemu <PROGRAM>",
      "the host's QEMU, 10.1 or newer: ACPI tables are read out of it",
      "qemu-system-x86_64",
    )
    .option("--acpi <PATH>", "or tables as such a machine's fw_cfg has them (see caisson measure)");
}

/** Collateral that evidence may carry: Intel's, and valid now. Throws VerifyError, UsageError. */
export async function readStapled(path: string): Promise<StapledCollateral> {
  const document = readCollateralFile(path);
  const { validUntil } = await verifyCollateral(document, new Date(), intelRoot);
  return { document, validUntil };
}

/**
 * Predicts the machine's registers and writes what belongs to it. Throws ProductionError, InputError, UsageError,
 * ReleaseError, VerifyError.
 */
export async function prepareMachine(
  image: string,
  { vcpus, memory, port, kms, kmsIdentity, qemu, acpi, collateral, ...files }: ProductionChoices,
): Promise<Production> {
  const manifest = readManifest(image);
  if (manifest.flavour !== "production") {
    throw new UsageError(
      `${image} is a ${manifest.flavour} image, which proves nothing`,
      "caisson build SPEC --flavour production",
    );
  }
  if (kms === undefined && kmsIdentity !== undefined) {
    throw new UsageError("--kms-identity says which KMS, and none is named", "add --kms URL");
  }
  const given = await readGiven(image, manifest, files);
  const stapled = collateral === undefined ? undefined : await readStapled(collateral);
  const shape = { vcpus, memory };
  const references = await predictProduction(image, shape, { qemu, ...(acpi !== undefined && { acpi }) });
  return prepareProduction({
    image,
    manifest,
    shape,
    references,
    given,
    ...(stapled !== undefined && { collateral: stapled }),
    ...(port !== undefined && { port }),
    ...(kms !== undefined && {
      kms: { url: kms, ...(kmsIdentity !== undefined && { identity: kmsIdentity }) },
    }),
  });
}

export const command = withProductionOptions(
  new Command("caisson instance")
    .description(
      "Writes what a production machine of an image needs: the instance document that names its KMS, the policies of KMS and relying parties that accept this machine, and QEMU's command.",
    )
    .argument("<image>", "a production image's directory, as `caisson build` makes it")
    .option("--vcpus <n>", "virtual processors", whole(1, 64), 2)
    .addOption(memoryOption())
    .option("--port <n>", "the application's port on 127.0.0.1 (default: its own number)", whole(1, 65_535))
    .option("--json", "one JSON document"),
).action(async (path: string, options: ProductionChoices & { json?: boolean }) => {
  const image = resolve(path);
  const production = await prepareMachine(image, options);
  process.stdout.write(
    options.json === true ? jsonText({ image, ...production }) : renderProduction(image, production),
  );
});
