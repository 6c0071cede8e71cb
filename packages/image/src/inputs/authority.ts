// SPDX-License-Identifier: Apache-2.0
/** The roots of a certificate authority of the owner's choice (`front.acme.roots`), which enter the measured description. */
import { readFile } from "node:fs/promises";
import { parseRoots } from "@caisson/nts";
import { type AppDescription, authorityRootsLimit } from "@caisson/protocol/guest-config";
import { messageOf } from "@caisson/vocabulary/failure";
import { ImageError } from "../errors.ts";
import type { FrontSpec } from "./spec.ts";

/** The description with the PEM of those roots; as it is where the public ones do. Throws ImageError `app/front`. */
export async function nameAuthority(
  description: AppDescription,
  front: FrontSpec | undefined,
): Promise<AppDescription> {
  const path = front?.acme?.roots;
  const { front: described } = description;
  if (path === undefined || described?.acme === undefined) return description;
  const roots = await readRoots(path);
  return { ...description, front: { ...described, acme: { ...described.acme, roots } } };
}

/** The certificates alone, each as OpenSSL writes it: what else stands in the file is not measured. */
async function readRoots(path: string): Promise<string> {
  try {
    const roots = parseRoots(await readFile(path, "utf8"))
      .map((root) => root.toString())
      .join("");
    if (roots.length <= authorityRootsLimit) return roots;
    throw new Error(`its certificates are ${roots.length} bytes, and at most ${authorityRootsLimit} are`);
  } catch (error) {
    throw new ImageError("app/front", `front.acme.roots: ${path}: ${messageOf(error)}`, {
      fix: "the CA certificates that the directory's own chain ends in, PEM",
      cause: error,
    });
  }
}
