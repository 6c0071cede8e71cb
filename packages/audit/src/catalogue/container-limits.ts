// SPDX-License-Identifier: Apache-2.0
/** How much a service may take, as whom, and what lies between two: judged by what PID 1 gives to crun. */
import { image, live, reasonsForNoCheck, rootCovered } from "../expect.ts";
import type { ImageFacts } from "../facts.ts";
import { group } from "./group.ts";
import { grouped, ownMount } from "./user-processes.ts";

/** What root of a user namespace may have, and what a service may have besides when its owner asks for it. */
const ofRoot = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"];
const asked = ["NET_RAW", "SYS_CHROOT"];

const services = ({ app }: ImageFacts["guest"]) => Object.values(app.services);

export const containerLimits = group("container", { decision: "least", source: "oci" }, [
  {
    id: "O09",
    title: "Bounded memory and processes",
    why: "It cannot starve what watches it.",
    static: [
      image(
        "a memory limit",
        ({ guest }) =>
          services(guest)
            .find(({ memory }) => !(memory > 0 && Number.isFinite(memory)))
            ?.memory.toString(),
        ({ guest }) => {
          services(guest)[0]!.memory = 0;
        },
      ),
      image(
        "a limit on processes",
        ({ guest }) =>
          services(guest)
            .find(({ pids }) => !(pids > 0 && pids <= 32_768))
            ?.pids.toString(),
        ({ guest }) => {
          services(guest)[0]!.pids = 0;
        },
      ),
      image(
        "every file system in memory has a size",
        ({ runtime }) =>
          runtime.mounts.find(
            ({ type, options }) => type === "tmpfs" && !options.some((option) => option.startsWith("size=")),
          )?.destination,
        ({ runtime }) => {
          runtime.mounts.push({
            destination: "/var",
            type: "tmpfs",
            source: "tmpfs",
            options: ["nosuid", "nodev", "noexec"],
          });
        },
      ),
    ],
    live: [
      grouped(
        "the kernel limits the memory of each group that a user's process is in",
        ({ memory }) => /^[1-9]\d*$/.test(memory ?? ""),
        (group) => void (group.memory = "max"),
      ),
      grouped(
        "and the number of its processes",
        ({ pids }) => /^[1-9]\d*$/.test(pids ?? ""),
        (group) => void (group.pids = "max"),
      ),
      grouped(
        "and ends all of it when its memory is used up",
        ({ killedTogether }) => killedTogether === "1",
        (group) => void (group.killedTogether = "0"),
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O10",
    title: "An unprivileged user",
    why: "Not root, even inside.",
    services: {
      reason: "root of a user namespace is nobody outside of it",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "user and group are not 0",
        ({ runtime }) => (runtime.process.user.uid > 0 && runtime.process.user.gid > 0 ? undefined : "root"),
        ({ runtime }) => {
          runtime.process.user.uid = 0;
        },
      ),
    ],
    live: [
      live(
        "a process of another user than root runs",
        ({ processes }) => (processes.some(({ uid }) => uid !== 0) ? undefined : "none"),
        (copy) => {
          copy.processes = copy.processes.filter(({ uid }) => uid === 0);
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O11",
    title: "What it may write to, it may not execute",
    why: "A dropped file stays data.",
    source: "design",
    services: {
      reason: "their layer and volumes are as writable and executable as other runtimes make them",
      kinds: ["static", "live"],
    },
    static: [
      image(
        "tmpfs and binds are nosuid and noexec",
        ({ runtime }) =>
          runtime.mounts.find(
            ({ type, options }) =>
              (type === "tmpfs" || type === "bind") &&
              !(options.includes("nosuid") && options.includes("noexec")),
          )?.destination,
        ({ runtime }) => {
          for (const mount of runtime.mounts)
            mount.options = mount.options.filter((option) => option !== "noexec");
        },
      ),
    ],
    live: [
      live(
        "what is mounted writable for processes of users is nosuid and noexec",
        ({ processes }) =>
          ownMount(
            processes,
            ({ options }) =>
              options.includes("rw") && !(options.includes("nosuid") && options.includes("noexec")),
          ),
        ({ processes }) => {
          for (const { mounts } of processes)
            mounts?.push({ source: "tmpfs", target: "/var", type: "tmpfs", options: ["rw", "nosuid"] });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "O12",
    title: "Contained services are apart from each other",
    why: "What breaks out of one, or was sold with one, is not another's.",
    source: "oci",
    tests: ["packages/guest/src/sandbox.test.ts", "packages/guest/src/network/plan.test.ts"],
    static: [
      image(
        "each has ids of its own, and several are all contained",
        ({ guest }) => {
          const all = services(guest);
          const ranges = new Set(all.map(({ range }) => range));
          if (ranges.size !== all.length) return "two share a range";
          return all.length > 1
            ? all.find(({ isolation }) => isolation !== "contained")?.isolation
            : undefined;
        },
        ({ guest }) => {
          guest.app.services["other"] = structuredClone(services(guest)[0]!);
        },
      ),
      image(
        "capabilities only inside a user namespace, and of those that hold for nothing outside of it",
        ({ guest }) => {
          const bad = services(guest).find(
            ({ isolation, capabilities }) =>
              capabilities.some((name) => !ofRoot.includes(name) && !asked.includes(name)) ||
              (capabilities.length > 0 && isolation !== "contained"),
          );
          return bad?.capabilities.join(", ");
        },
        ({ guest }) => {
          services(guest)[0]!.capabilities = ["CHOWN"];
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "O17",
    title: "No service has a capability that was asked for",
    why: "What entry points need is known; the rest is somebody's wish.",
    source: "oci",
    services: { reason: "cap_add of the compose file asks for it", kinds: ["static"] },
    tests: ["packages/image/src/build/service.test.ts", "test/e2e/containers.test.ts"],
    static: [
      image(
        "root has what entry points need, and nobody else has any",
        ({ guest }) => {
          const found = Object.entries(guest.app.services).flatMap(([name, { user, capabilities }]) => {
            const more = capabilities.filter((one) => user !== 0 || !ofRoot.includes(one));
            return more.length === 0 ? [] : [`${name}: ${more.join(", ")}`];
          });
          return found.join("; ") || undefined;
        },
        ({ guest }) => {
          services(guest)[0]!.capabilities = ["NET_RAW"];
        },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
]);
