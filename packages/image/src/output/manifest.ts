/**
 * `manifest.json`: what an image consists of, exactly, and where each part comes from.
 *
 * Invariants: a function of the inputs (no clock, no host, no path of the machine), so two builds of the same lock and
 * sources write the same bytes; every file of the image directory but the manifest itself is named with size and
 * SHA-256. Sizes are in bytes, hashes lower-case hex.
 */
import type { GuestConfig } from "@caisson/protocol/guest-config";
import type { Flavour } from "../build/cmdline.ts";
import type { OciChange } from "../oci/oci.ts";
import type { Measurements } from "./measurements.ts";

/** One file of the image directory. */
export interface Artefact {
  /** Path in the image directory. */
  file: string;
  size: number;
  sha256: string;
}

export interface Manifest {
  schema: "caisson/manifest/v1";
  name: string;
  flavour: Flavour;
  /** Seconds since 1970: the newest archive date of the lock. It is the time of every file and the clock's floor. */
  sourceDate: number;
  /** SHA-256 of caisson.lock. */
  lock: string;
  /** Exactly what the kernel is started with. */
  commandLine: string;
  kernel: Artefact;
  rootfs: Artefact & {
    verity: { rootHash: string; salt: string; algorithm: "sha256"; blockSize: number; dataBlocks: number };
  };
  firmware: { emulated: { code: Artefact; variables: Artefact }; tdx: Artefact };
  sbom: Artefact;
  /** What PID 1 reads: `/etc/caisson/guest.json`. */
  guest: GuestConfig;
  /** Versions of what was put together: Debian packages, Node, and the npm packages in PID 1's bundle. */
  versions: {
    kernel: string;
    node: string;
    firmware: { emulated: string; tdx: string };
    packages: Record<string, string>;
    npm: Record<string, string>;
  };
  /** SHA-256 of the Node binary as npm delivered it, before stripping. */
  node: string;
  /** The root outside the application, counted; how each program and library was hardened. */
  contents: {
    files: number;
    applicationFiles: number;
    /** What files and directories of the application's image had and here have not; paths are those of that image. */
    dropped: OciChange[];
    executables: string[];
    hardening: Record<string, { pie: boolean; relro: string; stackProtected: boolean }>;
  };
  /** Registers that follow from the files alone; RTMR0 depends on the machine (`caisson measure`). */
  measurements?: Measurements;
}

/** The text of a manifest: two-space JSON in the order of its fields, one final newline. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}
