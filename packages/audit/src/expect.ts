// SPDX-License-Identifier: Apache-2.0
/** Makers of tests. Each makes the counterexample together with the test, so that the matrix needs no second list. */
import { splitCommandLine } from "@caisson/protocol/command-line";
import type { CheckId } from "@caisson/verify/errors";
import { NotApplicable, type Test } from "./control.ts";
import type { FileFact, ImageFacts, LiveFacts, RemoteFacts } from "./facts.ts";
import { valueOf } from "./kernel-config.ts";

/** Checks of all three kinds. */
export interface Checks {
  static: readonly Test<ImageFacts>[];
  live: readonly Test<LiveFacts>[];
  remote: readonly Test<RemoteFacts>[];
}

/** Why a kind of check is missing, where the reason is shared. */
export const reasonsForNoCheck = {
  verifiedRoot: "the root is dm-verity: what the static check saw is what runs, or the kernel panics",
  behaviour:
    "behaviour of PID 1, not a property of bytes: the named tests show it, and U13 ties PID 1 to these sources",
  kms: "a rule of the key service, which is not part of an image: the named tests show it",
  verifier: "a rule of the verifier, which is not part of an image: only evidence can be judged by it",
  invisible: "no register covers it: a verifier sees it only through the image that its reference names",
  firmwareGone: "firmware has left when PID 1 runs: MRTD speaks for it",
} as const;

// --- static -----------------------------------------------------------------------------------------------------

export function image(
  expects: string,
  judge: (facts: ImageFacts) => string | NotApplicable | undefined,
  breaks: (copy: ImageFacts) => void,
): Test<ImageFacts> {
  return { expects, judge, break: breaks };
}

/** Facts are read-only for judges; a counterexample writes to its own copy. */
export const writable = <K, V>(map: ReadonlyMap<K, V>): Map<K, V> => map as Map<K, V>;

const shown = (values: readonly string[]): string => values.slice(0, 5).join(", ");
const wrongValue = (want: string): string => (want === "n" ? "y" : want === "y" ? "n" : "caisson-wrong");

function configTest(symbol: string, want: string): Test<ImageFacts> {
  return image(
    want === "n" ? `CONFIG_${symbol} is not set` : `CONFIG_${symbol}=${want}`,
    ({ kernel }) => (valueOf(kernel.config, symbol) === want ? undefined : valueOf(kernel.config, symbol)),
    ({ kernel }) => writable(kernel.config).set(symbol, wrongValue(want)),
  );
}

function liveConfigTest(symbol: string, want: string): Test<LiveFacts> {
  return {
    expects: want === "n" ? `CONFIG_${symbol} is not set` : `CONFIG_${symbol}=${want}`,
    judge({ kernelConfig }) {
      if (kernelConfig === null) return new NotApplicable("this kernel does not show its configuration");
      const value = Object.hasOwn(kernelConfig, symbol) ? kernelConfig[symbol]! : "n";
      return value === want ? undefined : value;
    },
    break(copy) {
      copy.kernelConfig = { ...copy.kernelConfig, [symbol]: wrongValue(want) };
    },
  };
}

/** The kernel is built with these values (`n`: not set): in the image, in the running kernel, and under RTMR1. */
export function kernel(symbols: Record<string, string>): Checks {
  const each = Object.entries(symbols);
  return {
    static: each.map(([symbol, want]) => configTest(symbol, want)),
    live: each.map(([symbol, want]) => liveConfigTest(symbol, want)),
    remote: [covered("rtmr1", "the kernel's EFI_BOOT_SERVICES_APPLICATION event")],
  };
}

/** `kernel` for symbols that are all to be left out. */
export function without(...symbols: string[]): Checks {
  return kernel(Object.fromEntries(symbols.map((symbol) => [symbol, "n"])));
}

const parameter = (token: string): string => token.split("=")[0]!.replaceAll("-", "_");

/** A token stands on the line, and no other token sets the same parameter. */
function tokenFinding(line: readonly string[], token: string): string | undefined {
  const same = line.filter((other) => parameter(other) === parameter(token));
  if (same.length === 1 && same[0] === token) return undefined;
  return same.length === 0 ? "missing" : same.join(" ");
}

/** These tokens are on the command line: the manifest's, the live one, and under RTMR2. */
export function tokens(...wanted: string[]): Checks {
  return {
    static: wanted.map((token) =>
      image(
        `'${token}' on the command line`,
        ({ commandLine }) => tokenFinding(commandLine, token),
        (copy) => {
          copy.commandLine = copy.commandLine.filter((other) => other !== token);
        },
      ),
    ),
    live: wanted.map((token) =>
      live(
        `'${token}' on the command line`,
        ({ commandLine }) => tokenFinding(splitCommandLine(commandLine), token),
        (copy) => {
          copy.commandLine += ` ${token.split("=")[0]}=caisson-wrong`;
        },
      ),
    ),
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  };
}

/** What services bring is their sandboxes' business: roots of images, and files of the project. */
const ofServices = /^\/app\/(?:[^/]+\/)?(?:rootfs|files)\//;

/** No path of the root outside of the application matches; `example` is one that would. */
export function noFiles(expects: string, pattern: RegExp, example: string): Test<ImageFacts> {
  return image(
    expects,
    ({ files }) => {
      const found = [...files.keys()].filter((path) => !ofServices.test(path) && pattern.test(path));
      return found.length === 0 ? undefined : shown(found);
    },
    ({ files }) => writable(files).set(example, { kind: "file", mode: 0o644, uid: 0, gid: 0, size: 1 }),
  );
}

/** Every path satisfies `holds`; `broken` is a file that does not. */
export function everyFile(
  expects: string,
  holds: (file: FileFact, path: string) => boolean,
  broken: Partial<FileFact>,
): Test<ImageFacts> {
  return image(
    expects,
    ({ files }) => {
      const bad = [...files].filter(([path, file]) => !holds(file, path)).map(([path]) => path);
      return bad.length === 0 ? undefined : shown(bad);
    },
    ({ files }) =>
      writable(files).set("/usr/lib/counterexample", {
        kind: "file",
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 1,
        ...broken,
      }),
  );
}

// --- live -------------------------------------------------------------------------------------------------------

export function live(
  expects: string,
  judge: (facts: LiveFacts) => string | NotApplicable | undefined,
  breaks: (copy: LiveFacts) => void,
): Test<LiveFacts> {
  return { expects, judge, break: breaks };
}

/** These settings have these values, or the kernel was built without them and nobody can turn them. */
export function sysctls(wanted: Record<string, string>): Test<LiveFacts>[] {
  return Object.entries(wanted).map(([key, value]) =>
    live(
      `${key} = ${value}`,
      (facts) => {
        const found = Object.hasOwn(facts.sysctls, key) ? facts.sysctls[key] : undefined;
        if (found === null) return new NotApplicable(`this kernel has no ${key}`);
        return found === value ? undefined : (found ?? "not reported");
      },
      (copy) => {
        copy.sysctls[key] = "caisson-wrong";
      },
    ),
  );
}

/** The guest tried it and the kernel refused with one of these errnos. */
export function refused(name: string, ...errnos: string[]): Test<LiveFacts> {
  return live(
    `${name}: ${errnos.join(" or ")}`,
    ({ probes }) => {
      const probe = Object.hasOwn(probes, name) ? probes[name]! : undefined;
      if (probe === undefined) return "not tried";
      if ("skipped" in probe) return new NotApplicable(`${name}: ${probe.skipped}`);
      if ("succeeded" in probe) return "it succeeded";
      return errnos.includes(probe.errno) ? undefined : probe.errno;
    },
    (copy) => {
      copy.probes[name] = { succeeded: true };
    },
  );
}

/** None of these file systems is known to the kernel. */
export function noFilesystem(...names: string[]): Test<LiveFacts> {
  return live(
    `no file system ${names.join(", ")}`,
    ({ filesystems }) => {
      const found = names.filter((name) => filesystems.includes(name));
      return found.length === 0 ? undefined : found.join(", ");
    },
    (copy) => {
      copy.filesystems.push(names[0]!);
    },
  );
}

/** None of these protocols is known to the kernel. */
export function noProtocol(...names: string[]): Test<LiveFacts> {
  return live(
    `no protocol ${names.join(", ")}`,
    ({ protocols }) => {
      const found = names.filter((name) => protocols.includes(name));
      return found.length === 0 ? undefined : found.join(", ");
    },
    (copy) => {
      copy.protocols.push(names[0]!);
    },
  );
}

// --- remote -----------------------------------------------------------------------------------------------------

/** The verifier asked this question and the answer was yes. */
export function verified(id: CheckId, meaning: string): Test<RemoteFacts> {
  return {
    expects: `${meaning} (${id})`,
    judge({ report }) {
      const check = report.checks.find((one) => one.id === id);
      if (check === undefined) return "the report does not contain this check";
      return check.outcome === "pass"
        ? undefined
        : `${check.outcome}${check.code === undefined ? "" : `, ${check.code}`}`;
    },
    break({ report }) {
      const check = report.checks.find((one) => one.id === id);
      if (check !== undefined) check.outcome = "not-checked";
    },
  };
}

/** Why no bytes can be judged: it is what a file of PID 1 does. */
export const inSource = (file: string): string => `behaviour of PID 1 (${file}), which U13 ties to the image`;

/** The register that covers it was compared with a reference and matched; `event` is how it gets there. */
export function covered(register: "mrtd" | "rtmr0" | "rtmr1" | "rtmr2", event: string): Test<RemoteFacts> {
  return verified(
    `registers/${register}`,
    `${register.toUpperCase()} matches the reference, through ${event}`,
  );
}

/** The root file system is covered: its verity root hash stands on the measured command line. */
export const rootCovered = covered("rtmr2", "the verity root hash in the LoadOptions event");
