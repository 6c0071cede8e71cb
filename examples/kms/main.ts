// SPDX-License-Identifier: Apache-2.0
/**
 * The KMS as the application of a guest. KMS_DATABASE names the PostgreSQL servers of log and rows, with spaces between
 * them; they are not trusted. KMS_PEERS names other replicas, whose heads are compared; KMS_COLLATERAL_SOURCE whom to
 * ask for collateral ("pcs", or the address of a PCCS). KMS_DATA is a directory on a persistent volume of this guest's,
 * which another KMS opens: then root secret, log and rows lie there. Without either they lie in the guest's memory and end
 * with it, which is for a look around. KMS_RESTORED_BEFORE is for an image with shares.json: how many recoveries there were
 * before.
 */
import { startGuestKms } from "@caisson/kms/guest";

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const urls = (name: string): string[] => (process.env[name] ?? "").split(" ").filter((url) => url !== "");
const [source] = urls("KMS_COLLATERAL_SOURCE");
const [volume] = urls("KMS_DATA");
const [restored = "0"] = urls("KMS_RESTORED_BEFORE");

try {
  if (!/^([1-5]?\d|60)$/.test(restored)) throw new Error(`KMS_RESTORED_BEFORE is '${restored}': 0 to 60`);
  const kms = await startGuestKms({
    files: import.meta.dirname,
    // In memory, unless there is a volume: nothing of it is readable on a disk of the host.
    data: volume ?? "/tmp/kms",
    persistent: volume !== undefined,
    databases: urls("KMS_DATABASE"),
    peers: urls("KMS_PEERS"),
    restoredBefore: Number(restored),
    ...(source !== undefined && { collateralSource: source }),
    host: "0.0.0.0",
    port: 7700,
    log: say,
  });
  say(`KMS ${kms.identityKey}`);
  process.once("SIGTERM", () => void kms.close().then(() => process.exit(0)));
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  say(`${message}   [${code ?? "internal"}]`);
  process.exit(1);
}
