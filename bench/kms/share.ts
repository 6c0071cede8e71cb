// SPDX-License-Identifier: Apache-2.0
/**
 * A bounded share of one processor for a process: what a container's limit is made of.
 *
 * Control groups of either version (Linux, Documentation/scheduler/sched-bwc.rst and admin-guide/cgroup-v2.rst), each in
 * the innermost group above this process in which one can be made. Nothing else on the machine is changed.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Short, so that who has used up its share waits a few milliseconds at most. */
const periodMicroseconds = 10_000;

export interface Share {
  /** Periods so far, and those in which the process wanted more than its share. */
  periods(): { all: number; exhausted: number };
  /** Removes the group of a process that has ended. */
  end(): void;
}

/** Gives the process `pid`, which has just started, `share` (0 to 1) of one processor; undefined where none can be given. */
export function bounded(pid: number, share: number): Share | undefined {
  const quota = Math.round(share * periodMicroseconds);
  const name = `caisson-bench-${process.pid}-${pid}`;
  for (const { path, limits } of places(quota)) {
    const group = join(path, name);
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    try {
      // A file that is not there belongs to a controller that is not in force here: nothing is made in its place.
      for (const [file, value] of limits) writeFileSync(join(group, file), value, { flag: "r+" });
      writeFileSync(join(group, "cgroup.procs"), String(pid), { flag: "r+" });
    } catch {
      rmdirSync(group);
      continue;
    }
    return {
      periods: () => {
        const text = readFileSync(join(group, "cpu.stat"), "utf8");
        const value = (key: string) => Number(new RegExp(`^${key} (\\d+)$`, "m").exec(text)?.[1]);
        return { all: value("nr_periods"), exhausted: value("nr_throttled") };
      },
      end: () => rmdirSync(group),
    };
  }
  return undefined;
}

/** Groups in which one could be made, the likeliest first, with what bounds it there. */
function places(quota: number): { path: string; limits: [file: string, value: string][] }[] {
  const v1: [string, string][] = [
    ["cpu.cfs_period_us", String(periodMicroseconds)],
    ["cpu.cfs_quota_us", String(quota)],
  ];
  const v2: [string, string][] = [["cpu.max", `${quota} ${periodMicroseconds}`]];
  const own = readFileSync("/proc/self/cgroup", "utf8").trim().split("\n");
  return (
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .flatMap((line) => {
        const [before = "", after = ""] = line.split(" - ");
        const [, , , root = "", mount = ""] = before.split(" ");
        const [type, , options = ""] = after.split(" ");
        const controller = type === "cgroup" && options.split(",").includes("cpu") ? "cpu" : undefined;
        if (controller === undefined && type !== "cgroup2") return [];
        const mine = own
          .map((entry) => entry.split(":"))
          .find(([, names = ""]) =>
            controller === undefined ? names === "" : names.split(",").includes(controller),
          )?.[2];
        if (mine === undefined || root !== "/") return [];
        const limits = controller === undefined ? v2 : v1;
        return ancestors(mine).map((path) => ({ path: join(mount, path), limits }));
      })
      // A group of the second version may have either children with controllers or processes, so its parents count, too.
      .sort((a, b) => a.limits.length - b.limits.length)
  );
}

const ancestors = (path: string): string[] => (path === "/" ? [path] : [path, ...ancestors(dirname(path))]);
