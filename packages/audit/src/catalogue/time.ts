// SPDX-License-Identifier: Apache-2.0
/** Time that several operators vouch for, before keys (decision D5). */

import { parseTimeConfiguration, publicConfiguration, type TimeConfiguration } from "@caisson/nts";
import {
  image,
  inSource,
  live,
  noFiles,
  reasonsForNoCheck,
  rootCovered,
  verified,
  without,
} from "../expect.ts";
import type { ImageFacts } from "../facts.ts";
import { group } from "./group.ts";

/** Who the image asks; the built-in list where it names none. */
function timeSources({ guest }: ImageFacts): TimeConfiguration | string {
  try {
    return guest.time.configuration === undefined
      ? publicConfiguration()
      : parseTimeConfiguration(guest.time.configuration);
  } catch (error) {
    return (error as Error).message;
  }
}

function configured(
  expects: string,
  judge: (configuration: TimeConfiguration) => string | undefined,
  breaks: (configuration: TimeConfiguration) => void,
) {
  return image(
    expects,
    (facts) => {
      const configuration = timeSources(facts);
      return typeof configuration === "string" ? configuration : judge(configuration);
    },
    (copy) => {
      const configuration = structuredClone(timeSources(copy)) as TimeConfiguration;
      breaks(configuration);
      copy.guest.time.configuration = configuration;
    },
  );
}

const year2024 = 1_704_067_200;

export const time = group("time", { decision: "D5", source: "nts" }, [
  {
    id: "T01",
    title: "A build epoch below which the clock never is",
    why: "A stateless guest has no other protection against a clock set back.",
    static: [
      image(
        "an epoch after 2024, equal to the build's source date",
        ({ guest, build }) =>
          guest.epoch > year2024 && (build.sourceDate === undefined || build.sourceDate === guest.epoch)
            ? undefined
            : `epoch ${guest.epoch}, source date ${build.sourceDate}`,
        (copy) => {
          copy.guest.epoch = 0;
        },
      ),
    ],
    live: [
      live(
        "the clock is at or after the epoch",
        ({ now, epoch }) => (now >= epoch * 1000 ? undefined : `${now} before ${epoch * 1000}`),
        (copy) => {
          copy.now = 0;
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "T02",
    title: "The RTC is a bounded hint",
    why: "The host owns it; PID 1 believes it only within some years after the epoch.",
    source: "intel",
    static: inSource("packages/guest/src/stages/time.ts"),
    live: [
      live(
        "the clock is within ten years of the epoch",
        ({ now, epoch }) =>
          now <= epoch * 1000 + 10 * 365.25 * 86_400_000 ? undefined : new Date(now).toISOString(),
        (copy) => {
          copy.now = Date.UTC(2099, 0);
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "T03",
    title: "Time comes by our own NTS client only",
    why: "Another daemon might be built without NTS and say nothing; there is none.",
    source: "dstack",
    static: [
      noFiles(
        "no other time daemon",
        /\/(chronyd|ntpd|ntpdate|systemd-timesyncd|ptp4l)$/,
        "/usr/sbin/chronyd",
      ),
    ],
    live: [
      live(
        "no process of a time daemon",
        ({ processes }) => processes.find(({ name }) => /chronyd|ntpd|timesync/.test(name))?.name,
        (copy) => {
          copy.processes.push({ ...copy.processes[0]!, name: "chronyd" });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "T04",
    title: "Never plain NTP",
    why: "An attacker who blocks NTS must not get an unauthenticated answer instead.",
    tests: ["packages/nts/src/ntske.test.ts", "packages/nts/src/ntp.test.ts"],
    static: [
      configured(
        "every source names the roots of its authority",
        ({ sources }) => sources.find(({ ca }) => !ca.includes("BEGIN CERTIFICATE"))?.name,
        (configuration) => {
          configuration.sources[0]!.ca = "";
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [verified("time/secure-time", "the measured event says that the time is authenticated")],
  },
  {
    id: "T05",
    title: "Five servers, three operators",
    why: "One liar, or one company, decides nothing.",
    tests: ["packages/nts/src/agreement.test.ts"],
    static: [
      configured(
        "at least five sources",
        ({ sources }) => (sources.length >= 5 ? undefined : String(sources.length)),
        (configuration) => {
          // The quorum shrinks with it, so that only the number is wrong.
          configuration.sources = configuration.sources.slice(0, 4);
        },
      ),
      configured(
        "at least three operators must agree",
        ({ minOperators }) => (minOperators >= 3 ? undefined : String(minOperators)),
        (configuration) => {
          configuration.minOperators = 1;
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [verified("time/secure-time", "enough operators agreed")],
  },
  {
    id: "T06",
    title: "Slow and vague answers do not count",
    why: "The error of one answer is at most half of its round trip.",
    static: [
      configured(
        "round trips of at most 1 s",
        ({ limits }) => (limits.maxRttMs <= 1000 ? undefined : `${limits.maxRttMs} ms`),
        ({ limits }) => {
          limits.maxRttMs = 3000;
        },
      ),
      configured(
        "an agreement at most 250 ms wide",
        ({ limits }) => (limits.maxWidthMs <= 250 ? undefined : `${limits.maxWidthMs} ms`),
        ({ limits }) => {
          limits.maxWidthMs = 3000;
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [verified("time/secure-time", "the agreement was narrow enough")],
  },
  {
    id: "T07",
    title: "Each source has its own certificate authorities",
    why: "No authority of the whole web can vouch for a time server.",
    static: [
      configured(
        "at most sixteen roots for a source",
        ({ sources }) => sources.find(({ ca }) => ca.split("BEGIN CERTIFICATE").length - 1 > 16)?.name,
        ({ sources }) => {
          sources[0]!.ca = sources[0]!.ca.repeat(17);
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "T08",
    title: "Certificates are checked again at the agreed time",
    why: "An expired certificate together with a matching RTC must not win.",
    tests: ["packages/nts/src/certificates.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: "what happened before the report cannot be seen in it",
    remote: [rootCovered],
  },
  {
    id: "T09",
    title: "One step, then slewing",
    why: "Later lies are bounded by what drift can explain.",
    static: inSource("packages/guest/src/stages/time.ts"),
    live: [
      live(
        "one secure-time event",
        ({ events }) => {
          const count = events.filter((name) => name === "secure-time").length;
          return count === 1 ? undefined : `${count} events`;
        },
        (copy) => {
          copy.events.push("secure-time");
        },
      ),
    ],
    remote: [verified("events/sequence", "one secure-time event, in its place")],
  },
  {
    id: "T10",
    title: "Time before keys",
    why: "Certificates and revocation lists mean nothing at an unknown time.",
    source: "dstack",
    static: [
      image(
        "secure_time is on",
        ({ guest }) => (guest.time.secure_time ? undefined : "it is off"),
        (copy) => {
          copy.guest.time.secure_time = false;
        },
      ),
    ],
    live: [
      live(
        "secure-time is measured before key-provider",
        ({ events }) => {
          const [time, keys] = [events.indexOf("secure-time"), events.indexOf("key-provider")];
          return time >= 0 && time < keys ? undefined : events.join(", ");
        },
        (copy) => {
          copy.events = copy.events.filter((name) => name !== "secure-time");
        },
      ),
    ],
    remote: [
      verified("time/secure-time", "the event says what the policy wants"),
      verified("events/sequence", "it came before the keys"),
    ],
  },
  {
    id: "T11",
    title: "The RTC is never written",
    why: "Time must not come back as the host's word on the next boot.",
    source: "design",
    ...without("RTC_CLASS", "RTC_SYSTOHC"),
  },
  {
    id: "T12",
    title: "Leap seconds cannot be forged",
    why: "The client takes no leap announcement from a server into the kernel.",
    tests: ["packages/nts/src/ntp.test.ts"],
    static: reasonsForNoCheck.behaviour,
    live: "the kernel's leap state is not in the report",
    remote: [rootCovered],
  },
  {
    id: "T13",
    title: "The TSC is the only clock in use, and there is no other",
    why: "HPET, ACPI timer and kvm-clock are emulated by the host.",
    source: "design",
    development: {
      reason: "without CPUID's frequency leaf the TSC is calibrated once against the ACPI timer",
      kinds: ["static", "live"],
    },
    static: without("X86_PM_TIMER").static,
    live: [
      live(
        "the current clock source is tsc",
        ({ clock }) => (clock.current === "tsc" ? undefined : clock.current),
        (copy) => {
          copy.clock.current = "hpet";
        },
      ),
      live(
        "no other is available",
        ({ clock }) => {
          const others = clock.available.filter((name) => name !== "tsc");
          return others.length === 0 ? undefined : others.join(", ");
        },
        (copy) => {
          copy.clock.available.push("kvm-clock");
        },
      ),
    ],
    remote: without("X86_PM_TIMER").remote,
  },
  {
    id: "T14",
    title: "Production takes its time sources from the image",
    why: "The host may name sources for development only, and the event says so.",
    source: "design",
    development: { reason: "sources may come from the instance document", kinds: ["live"] },
    static: inSource("packages/guest/src/stages/time.ts"),
    live: [
      live(
        "a production guest, or none that measured sources of the host's",
        ({ flavour }) =>
          flavour === "production"
            ? undefined
            : "a development guest: the instance document may name sources",
        (copy) => {
          copy.flavour = "development";
        },
      ),
    ],
    remote: [verified("time/secure-time", "the event names the image as the origin of the sources")],
  },
]);
