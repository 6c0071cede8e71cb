// SPDX-License-Identifier: Apache-2.0
/**
 * What is known of the three things that can be audited. Collecting (`collect.ts`, the guest's `live.ts`, the
 * verifier) and judging (`catalogue/`) are apart: every check is a pure function of one of these values.
 */

import type { Elf } from "@caisson/image/elf";
import type { GuestConfig } from "@caisson/protocol/guest-config";
import type { LiveReport } from "@caisson/protocol/live-report";
import type { Report } from "@caisson/verify";
import type { Flavour } from "@caisson/vocabulary/flavours";
import type { Platform } from "@caisson/vocabulary/platforms";
import type { FirmwareFacts } from "./firmware.ts";
import type { KernelConfig } from "./kernel-config.ts";

/** One path of the root file system, read from the image itself. */
export interface FileFact {
  kind: "file" | "directory" | "symlink" | "other";
  /** Permission bits with setuid, setgid and sticky. */
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Files: SHA-256 of the content, hex. */
  sha256?: string;
  /** Symbolic links. */
  target?: string;
  /** Set when the content is an x86-64 ELF file. */
  elf?: Elf;
  /** First bytes of a file that begins with `#!`: the interpreter that it asks for. */
  script?: string;
}

/**
 * An image directory, from its bytes; or a root file system tree of another system, for comparison. Parts that a tree
 * does not have throw `MissingPart` when they are read.
 */
export interface ImageFacts {
  kind: "image" | "tree";
  flavour: Flavour;
  /** Tokens of the command line that the manifest, or the tree's boot configuration, names. */
  commandLine: readonly string[];
  /** `size`: bytes of a kernel that is not a file of the root. */
  kernel: { release: string; config: KernelConfig; size: number };
  /** By absolute path. */
  files: ReadonlyMap<string, FileFact>;
  /** Names of the packages that kernel, root and PID 1 come from; the application and the firmware are none. */
  packages: readonly string[];
  /** The file system: features of its superblock, and the dm-verity root hash computed over its blocks. */
  root: { incompatibleFeatures: number; extendedAttributes: boolean; rootHash: string; treeIntact: boolean };
  guest: GuestConfig;
  /** The OCI runtime configuration that PID 1 gives to crun for this application. */
  runtime: RuntimeFacts;
  /** The same for its front, where the description has one. */
  front?: RuntimeFacts;
  firmware: FirmwareFacts;
  build: {
    /** Names of artefacts whose bytes are not those that the manifest names. */
    changed: readonly string[];
    /** SHA-256 of the lock, hex. */
    lock?: string;
    /** Seconds since 1970. */
    sourceDate?: number;
    /** Files of the root that the bill of materials does not name, or names with another hash. */
    unaccounted: readonly string[];
    /** SHA-256, hex, of PID 1 in the image (undefined: it has none) and of what these sources bundle to. */
    init: {
      image: string | undefined;
      sources: string;
      /** Whether it runs programs for others (`caisson exec`), by these sources: U13 ties the image to them. */
      exec: boolean;
    };
  };
}

/** The part of an OCI runtime configuration that checks read (runtime-spec, config.md and config-linux.md). */
export interface RuntimeFacts {
  root: { path: string; readonly: boolean };
  process: {
    user: { uid: number; gid: number };
    env: string[];
    noNewPrivileges: boolean;
    capabilities: Record<string, string[]>;
    rlimits: { type: string; hard: number; soft: number }[];
  };
  mounts: { destination: string; type: string; source: string; options: string[] }[];
  linux: {
    namespaces: { type: string; path?: string }[];
    /** Contained: which ids outside are its own. */
    uidMappings?: IdMapping[];
    gidMappings?: IdMapping[];
    devices?: unknown[];
    maskedPaths: string[];
    readonlyPaths: string[];
    seccomp: {
      defaultAction: string;
      syscalls: {
        names: string[];
        action: string;
        args?: { index: number; value: number; valueTwo?: number; op: string }[];
      }[];
    };
  };
}

interface IdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

/** A running guest, by its own word: believe it only as far as its evidence goes. */
export type LiveFacts = LiveReport;

/** Verified evidence: what the verifier says, check by check. */
export interface RemoteFacts {
  kind: "remote";
  /** "emulated" evidence proves nothing about hardware; undefined when the verifier does not say. */
  platform?: Platform;
  report: Report;
}
