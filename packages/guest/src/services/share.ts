// SPDX-License-Identifier: Apache-2.0
/**
 * Who floods PID 1 waits for itself. PID 1 comes before everything else on the processor, so that the time that it spends
 * on one service's calls is taken from all: a service whose calls take more than their share is frozen until they do not.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** The part of one processor that PID 1 spends on calls, and the time over which it is taken. */
const share = 0.2;
const windowMs = 1_000;
/** Calls in that time that nobody minds, whatever else PID 1 does. */
const few = 16;
const longestMs = 5_000;

/** What a share is measured by: milliseconds that passed, and that PID 1 ran. */
export interface Clock {
  now: () => number;
  ran: () => number;
}

const clock: Clock = {
  now: () => performance.now(),
  ran: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
};

/** Returns what is to be called for each call of a service's; `freeze` stops it and lets it go on. */
export function limitShare(freeze: (frozen: boolean) => void, { now, ran }: Clock = clock): () => void {
  let calls = 0;
  let [began, ranBefore] = [now(), ran()];
  let frozen = false;
  const renew = (): void => {
    calls = 0;
    [began, ranBefore] = [now(), ran()];
  };
  return () => {
    if (frozen) return;
    if (now() - began >= windowMs) renew();
    if (++calls <= few) return;
    const spent = ran() - ranBefore;
    if (spent <= share * windowMs) return;
    const pause = Math.min(longestMs, spent / share - (now() - began));
    if (pause <= 0) return;
    frozen = true;
    freeze(true);
    setTimeout(() => {
      frozen = false;
      freeze(false);
      renew();
    }, pause);
  };
}

/** Stops what is in a control group, or lets it go on (cgroup-v2, cgroup.freeze). */
export function freezeGroup(controlGroup: string, frozen: boolean): void {
  writeFileSync(join(controlGroup, "cgroup.freeze"), frozen ? "1" : "0");
}
