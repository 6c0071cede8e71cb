// SPDX-License-Identifier: Apache-2.0
/** The identity that an image claims (`app.identity`): its document's hash enters the measured description. */
import { readFile } from "node:fs/promises";
import type { AppDescription } from "@caisson/protocol/guest-config";
import { secretNames } from "@caisson/protocol/guest-config";
import { readIdentity } from "@caisson/releases";
import { messageOf } from "@caisson/vocabulary/failure";
import { reasonOf } from "@caisson/vocabulary/system-error";
import { ImageError } from "../errors.ts";

const malformed = (message: string, fix: string, cause?: unknown): ImageError =>
  new ImageError("app/identity", message, { fix, ...(cause !== undefined && { cause }) });

/** The identity's document. Throws ImageError `app/identity`. */
export async function readIdentityFile(path: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    throw malformed(`the identity ${path} cannot be read: ${reasonOf(error)}`, "caisson identity new", error);
  }
}

/**
 * The description with the application's id (hex) in it: the hash of `document`, its first generation. Without one, as it is.
 * Throws ImageError `app/identity` where that is not a first document, or secrets have nobody to come from.
 */
export async function claimIdentity(
  description: AppDescription,
  document: Uint8Array | undefined,
): Promise<AppDescription> {
  if (document === undefined) {
    const [secret] = secretNames(description);
    if (secret === undefined) return description;
    throw malformed(
      `the secret ${secret} has nobody to come from: owners of an identity sign secrets, and the spec names none`,
      "app.identity: ./identity.json (caisson identity new)",
    );
  }
  try {
    const { hash, document: read } = await readIdentity(document);
    if (read.generation === 0) return { ...description, identity: hash };
  } catch (error) {
    throw malformed(`app.identity: ${messageOf(error)}`, "the file that caisson identity new wrote", error);
  }
  throw malformed(
    "app.identity names a later generation, and the application's id is the hash of the first",
    "the file that caisson identity new wrote",
  );
}
