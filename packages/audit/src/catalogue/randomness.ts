// SPDX-License-Identifier: Apache-2.0
/** Randomness that the host can neither see nor steer (decision D4). */
import { NotApplicable } from "../control.ts";
import {
  covered,
  image,
  live,
  noFiles,
  reasonsForNoCheck,
  rootCovered,
  verified,
  without,
} from "../expect.ts";
import { compareReleases } from "../releases.ts";
import { group } from "./group.ts";

export const randomness = group("randomness", { decision: "D4", source: "design" }, [
  {
    id: "R01",
    title: "A kernel that does not boot in a TD without RDRAND",
    why: "Since 6.9 a confidential guest seeds itself with 256 bits of RDRAND or panics (cc_random_init).",
    source: "linux",
    static: [
      image(
        "release 6.9 or newer",
        ({ kernel }) => (compareReleases(kernel.release, "6.9") >= 0 ? undefined : kernel.release),
        (copy) => {
          copy.kernel.release = "6.6.1";
        },
      ),
    ],
    live: [
      live(
        "release 6.9 or newer",
        ({ release }) => (compareReleases(release, "6.9") >= 0 ? undefined : release),
        (copy) => {
          copy.release = "6.6.1";
        },
      ),
    ],
    remote: [verified("registers/rtmr1", "the kernel is the reference's")],
  },
  {
    id: "R02",
    title: "RDRAND is there and alive",
    why: "PID 1 samples it and stops without it; this also covers machines that are no TD.",
    tests: ["packages/guest/src/stages/entropy.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: [
      live(
        "the processor has RDRAND",
        ({ random }) => (random.rdrand ? undefined : "it has not"),
        (copy) => {
          copy.random.rdrand = false;
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "R03",
    title: "No generator of the host's",
    why: "Neither virtio-rng nor a TPM feeds the kernel, and no reseed comes from outside.",
    ...without("HW_RANDOM", "HW_RANDOM_VIRTIO", "HW_RANDOM_TPM", "VMGENID"),
    live: [
      live(
        "the kernel draws from no hardware generator",
        ({ random }) => (random.generator === "none" ? undefined : random.generator),
        (copy) => {
          copy.random.generator = "virtio_rng.0";
        },
      ),
    ],
  },
  {
    id: "R04",
    title: "No seed, machine id or key in the image",
    why: "It would be the same on every machine and known to all.",
    source: "systemd",
    static: [
      noFiles(
        "no random seed, machine id, host key",
        /(random-?seed|machine-id|ssh_host_|\.pem$|\.key$)/,
        "/var/lib/systemd/random-seed",
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "R05",
    title: "Seeded before PID 1, and a blocking read is served",
    why: "No key is made before the generator is ready.",
    tests: ["packages/guest/src/stages/entropy.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: [
      live(
        "'random: crng init done' before PID 1, in the kernel's log",
        ({ random }) => (random.seededAt === null ? "not there, or later" : undefined),
        (copy) => {
          copy.random.seededAt = null;
        },
      ),
      live(
        "a blocking read of 64 bytes is served",
        ({ random }) => (random.read === 64 ? undefined : `${random.read} bytes`),
        (copy) => {
          copy.random.read = 0;
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "R06",
    title: "Applications draw from the same generator",
    why: "getrandom(2) is on the application's list of system calls, and its devices are the kernel's; without them programs fall back to worse.",
    static: [
      image(
        "getrandom is allowed",
        ({ runtime }) =>
          runtime.linux.seccomp.syscalls.some(
            ({ names, action }) => action === "SCMP_ACT_ALLOW" && names.includes("getrandom"),
          )
            ? undefined
            : "it is not",
        (copy) => {
          for (const rule of copy.runtime.linux.seccomp.syscalls)
            rule.names = rule.names.filter((name) => name !== "getrandom");
        },
      ),
    ],
    live: [
      live(
        "applications find the kernel's /dev/random (1:8) and /dev/urandom (1:9)",
        ({ random, processes }) => {
          if (!processes.some(({ uid, kernelThread }) => uid !== 0 && !kernelThread))
            return new NotApplicable("no application runs");
          if (random.applications.length === 0) return "none was looked at";
          const wrong = random.applications.find((seen) => seen.random !== "1:8" || seen.urandom !== "1:9");
          return wrong === undefined
            ? undefined
            : `process ${wrong.pid}: ${wrong.random} and ${wrong.urandom}`;
        },
        ({ random }) => {
          random.applications[0]!.urandom = "1:5";
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "R07",
    title: "RDSEED is there and alive",
    why: "Its values are mixed in beside RDRAND's: closer to the source, and a second instruction to lie with.",
    tests: ["packages/guest/src/stages/entropy.test.ts"],
    development: { reason: "QEMU's emulated processors have no RDSEED", kinds: ["live"] },
    static: reasonsForNoCheck.behaviour,
    live: [
      live(
        "the processor has RDSEED",
        ({ random }) => (random.rdseed ? undefined : "it has not"),
        (copy) => {
          copy.random.rdseed = false;
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "R08",
    title: "Nothing but the processor is credited",
    why: "Whatever else is mixed in may help and cannot hurt; counted, it would let the host seed the generator alone.",
    source: "linux",
    static: "the command line that decides it is judged by C01, C02 and C20",
    live: [
      live(
        "the processor's seed is credited, and no other source's",
        ({ random: { sources } }) => {
          const credited = sources.filter((one) => one.credited).map(({ name }) => name);
          return credited.join() === "processor" ? undefined : credited.join(", ") || "none is";
        },
        ({ random }) => {
          for (const source of random.sources) source.credited = true;
        },
      ),
    ],
    remote: [covered("rtmr2", "the LOADED_IMAGE::LoadOptions event")],
  },
]);
