// SPDX-License-Identifier: Apache-2.0
/** What is asked of every process of a user in a running guest. */
import { NotApplicable, type Test } from "../control.ts";
import { live } from "../expect.ts";
import type { LiveFacts } from "../facts.ts";

type ControlGroup = LiveFacts["controlGroups"][string];

/** Processes of users, without the kernel's own threads. */
const usersOf = (processes: LiveFacts["processes"]) =>
  processes.filter(({ uid, kernelThread }) => uid !== 0 && !kernelThread);

/** The first mount of a user's process that is `bad`; a process that shares PID 1's mounts is, as a whole. */
export function ownMount(
  processes: LiveFacts["processes"],
  bad: (mount: LiveFacts["mounts"][number]) => boolean,
): string | NotApplicable | undefined {
  const users = usersOf(processes);
  if (users.length === 0) return new NotApplicable("no application runs");
  const shared = users.find(({ mounts }) => mounts === null);
  if (shared !== undefined) return `${shared.name} (${shared.pid}) sees what PID 1 sees`;
  const found = users.flatMap(({ mounts }) => mounts ?? []).find(bad);
  return found === undefined ? undefined : `${found.target} (${found.type} ${found.options.join(",")})`;
}

/** Holds for the control group of every process of a user, and each is in one. */
export function grouped(
  expects: string,
  holds: (group: ControlGroup) => boolean,
  breaks: (group: ControlGroup) => void,
): Test<LiveFacts> {
  return live(
    expects,
    ({ processes, controlGroups }) => {
      const bad = usersOf(processes).find(({ controlGroup }) => {
        const found = Object.hasOwn(controlGroups, controlGroup) ? controlGroups[controlGroup] : undefined;
        return found === undefined || !holds(found);
      });
      return bad === undefined ? undefined : `${bad.name} (${bad.pid}) in ${bad.controlGroup}`;
    },
    ({ controlGroups }) => {
      for (const one of Object.values(controlGroups)) breaks(one);
    },
  );
}
