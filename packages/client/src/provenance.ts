// SPDX-License-Identifier: Apache-2.0
/**
 * Where a platform stands: by a list of one's own, or by Google's register of its confidential hosts, which answers for
 * the PPID of an Intel platform. It is the one public answer to quotes of machines that somebody has in his hands
 * (TEE.fail, WireTap); it rests on TLS and Google, not on a signature.
 */
import { ask, type World } from "./collateral/ask.ts";
import { CollateralError } from "./collateral/errors.ts";

const GOOGLE_HOSTS = "https://storage.googleapis.com/confidential-host-registry";

/** Whether Google's register has this PPID (32 hexadecimal digits). Throws CollateralError where nobody can tell. */
export async function isGoogleHost(
  ppid: string,
  world: World,
  registry: string = GOOGLE_HOSTS,
): Promise<boolean> {
  try {
    await ask(`${registry}/${ppid}`, world);
    return true;
  } catch (error) {
    if (
      error instanceof CollateralError &&
      error.code === "collateral/not-served" &&
      / answers 404/.test(error.message)
    ) {
      return false;
    }
    throw error;
  }
}

/**
 * The name that a list gives to a platform: lines of an identity (PPID or chip id, hexadecimal) and a name; "#" begins
 * a comment. Undefined where it names none. Throws CollateralError "collateral/source" with the line that is not one.
 */
export function placeInList(identity: string, list: string): string | undefined {
  let found: string | undefined;
  for (const [i, line] of list.split("\n").entries()) {
    const text = line.replace(/#.*/, "").trim();
    if (text === "") continue;
    const [, id, name] = /^([0-9a-fA-F]{16,128})(?:\s+(.{1,200}))?$/.exec(text) ?? [];
    if (id === undefined) {
      throw new CollateralError("collateral/source", "input", `line ${i + 1} of the list names no platform`, {
        facts: [["found", text.slice(0, 80)]],
        fix: "one identity a line (PPID or chip id, hexadecimal), then a name",
      });
    }
    if (id.toLowerCase() === identity.toLowerCase()) found ??= name ?? "listed";
  }
  return found;
}
