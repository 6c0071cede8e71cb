// SPDX-License-Identifier: Apache-2.0
/** Collects facts: from an image directory, from a running guest, from evidence. All reading happens here. */

import { createHash, hash } from "node:crypto";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { bundleGuest, guestProgram } from "@caisson/image/bundle";
import {
  type Artefact,
  artefacts,
  flavourPlatform,
  type Manifest,
  readManifest,
} from "@caisson/image/manifest";
import { splitCommandLine } from "@caisson/protocol/command-line";
import { parseGuestConfig } from "@caisson/protocol/guest-config";
import type { LiveReport } from "@caisson/protocol/live-report";
import { firstBytes } from "@caisson/vocabulary/body";
import { messageOf } from "@caisson/vocabulary/failure";
import { guestConfigPath, livePath } from "@caisson/vocabulary/paths";
import { isPlatform } from "@caisson/vocabulary/platforms";
import { reasonOf } from "@caisson/vocabulary/system-error";

import { openImageFile, readErofsImage } from "./erofs-image.ts";
import { AuditError } from "./errors.ts";
import type { ImageFacts, RemoteFacts } from "./facts.ts";
import { readFirmware } from "./firmware.ts";
import { readKernelImage } from "./kernel-image.ts";
import { parseLiveReport } from "./live.ts";
import { frontRuntime, serviceRuntime } from "./runtime.ts";

/**
 * Facts of an image directory. Throws AuditError `image/missing`, `image/manifest`, `image/kernel`, `image/rootfs`,
 * `image/guest`.
 */
export async function collectImage(directory: string): Promise<ImageFacts> {
  const manifest = readManifest(directory);
  const locate = (artefact: Artefact): string => {
    const path = join(directory, artefact.file);
    if (!existsSync(path)) {
      throw new AuditError("image/missing", `${path} is missing: the manifest names it`, {
        fix: "caisson build",
      });
    }
    return path;
  };
  const load = (artefact: Artefact): Buffer => readFileSync(locate(artefact));

  using rootfs = openImageFile(locate(manifest.rootfs));
  const root = readErofsImage(rootfs);
  const guestJson = root.read(guestConfigPath);
  if (guestJson === undefined) throw new AuditError("image/guest", `the root holds no ${guestConfigPath}`);
  const guest = parsed(guestJson.toString("utf8"), parseGuestConfig);
  const kernel = load(manifest.kernel);
  const document = readBom(load(manifest.sbom));
  const { code } = await bundleGuest(guestProgram[manifest.flavour]);
  const firmware = manifest.firmware[flavourPlatform[manifest.flavour]].code;

  return {
    kind: "image",
    flavour: manifest.flavour,
    commandLine: splitCommandLine(manifest.commandLine),
    kernel: { ...readKernelImage(kernel), size: kernel.length },
    files: root.files,
    packages: document.packages,
    root: root.root,
    guest,
    runtime: serviceRuntime(guest),
    ...frontRuntime(guest),
    firmware: readFirmware(load(firmware)),
    build: {
      changed: await changedArtefacts(directory, manifest),
      lock: manifest.lock,
      sourceDate: manifest.sourceDate,
      unaccounted: [...root.files]
        .filter(([path, { kind, sha256 }]) => kind === "file" && !document.files.has(`${path} ${sha256}`))
        .map(([path]) => path),
      init: {
        image: root.files.get("/usr/lib/caisson/init.mjs")?.sha256,
        sources: hash("sha256", code, "hex"),
        exec: Buffer.from(code).includes(execSource),
      },
    },
  };
}

/** How esbuild's comments name it. */
const execSource = "packages/guest/src/exec.ts";

function parsed<T>(text: string, check: (value: unknown) => T): T {
  try {
    return check(JSON.parse(text));
  } catch (error) {
    throw new AuditError("image/manifest", `this description of an image is malformed: ${messageOf(error)}`);
  }
}

async function changedArtefacts(directory: string, manifest: Manifest): Promise<string[]> {
  const changed: string[] = [];
  for (const { file, sha256 } of artefacts(manifest)) {
    const path = join(directory, file);
    const sum = createHash("sha256");
    if (existsSync(path)) await pipeline(createReadStream(path), sum);
    if (!existsSync(path) || sum.digest("hex") !== sha256) changed.push(file);
  }
  return changed;
}

interface Component {
  type?: string;
  name?: string;
  hashes?: { alg: string; content: string }[];
  components?: Component[];
}

/** Of the bill of materials (CycloneDX): files as "path sha256", and what kernel, root and PID 1 were made of. */
function readBom(document: Buffer): { files: ReadonlySet<string>; packages: string[] } {
  const files = new Set<string>();
  const collect = (components: readonly Component[]): void => {
    for (const { type, name, hashes, components: inner } of components) {
      const sha256 = hashes?.find(({ alg }) => alg === "SHA-256")?.content;
      if (type === "file") files.add(`${name} ${sha256}`);
      collect(inner ?? []);
    }
  };
  return parsed(document.toString("utf8"), (value) => {
    const { components } = value as { components: Component[] };
    collect(components);
    const system = components.filter(({ type }) => type !== "container" && type !== "firmware");
    return { files, packages: system.map(({ name = "" }) => name) };
  });
}

const reportLimit = 4 * 1024 * 1024;

/**
 * A live report from a file, or from an application: its address alone, or with a path of its own. Throws AuditError
 * `live/schema`, or what fetching throws.
 */
export async function fetchLiveReport(source: string): Promise<LiveReport> {
  const remote = /^https?:\/\//.test(source);
  if (!remote && !existsSync(source)) throw new AuditError("audit/subject", `${source} does not exist`);
  const text = remote ? await download(addressOf(source)) : readFileSync(source, "utf8");
  return readLiveReport(text, source);
}

/** A live report out of `text`, which `source` gave. Throws AuditError `live/schema`. */
export function readLiveReport(text: string, source: string): LiveReport {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new AuditError("live/schema", `${source} did not give JSON`);
  }
  return parseLiveReport(value);
}

function addressOf(source: string): string {
  if (!URL.canParse(source)) throw new AuditError("audit/subject", `${source} is not an address`);
  const url = new URL(source);
  return url.pathname === "/" ? new URL(livePath, url).href : url.href;
}

async function download(url: string): Promise<string> {
  const response = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(30_000) }).catch(
    (error: Error) => {
      const reason = reasonOf(error);
      throw new AuditError("live/unreachable", `no report from ${url}: ${reason}`, {
        kind: "unavailable",
        fix: "see whether it runs there and serves a report; caisson audit --live SPEC asks a machine of caisson up itself",
        cause: error,
      });
    },
  );
  if (!response.ok) throw new AuditError("live/schema", `${url} answered with status ${response.status}`);
  const { bytes, more } = await firstBytes(response.body, reportLimit);
  if (more) throw new AuditError("live/schema", `${url} sent more than ${reportLimit} bytes`);
  return new TextDecoder().decode(bytes);
}

/** Facts of a report that the verifier wrote (`caisson verify --json`). Throws AuditError `evidence/report`. */
export function readReport(value: unknown): RemoteFacts {
  const report = value as RemoteFacts["report"];
  const fine =
    report?.version === "caisson/report/v1" &&
    Array.isArray(report.checks) &&
    report.checks.every(
      (check) => typeof check?.id === "string" && ["pass", "fail", "not-checked"].includes(check.outcome),
    );
  if (!fine) {
    throw new AuditError("evidence/report", "this is not a verification report", {
      fix: "caisson verify EVIDENCE … --json",
    });
  }
  // The platform is what the policy was asked about.
  const platform = report.checks.find(({ id }) => id === "policy/platform")?.actual;
  return { kind: "remote", ...(isPlatform(platform) && { platform }), report };
}
