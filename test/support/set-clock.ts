// SPDX-License-Identifier: Apache-2.0
/**
 * A host whose clock somebody sets while its processes run: those that are started with `env` read the time through
 * Debian's libfaketime. It stays a real clock, which is off by what a file says; the monotonic one is the machine's.
 */
import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

export interface HostClock {
  /** For the processes of this host. */
  env: NodeJS.ProcessEnv;
  /** Sets it to this machine's time and so many seconds. */
  set: (seconds: number) => void;
  /** What it shows, ms since 1970. */
  now: () => number;
}

/** One that is right at first; `after` gets what removes it. */
export function hostClock(after: (end: () => void) => void): HostClock {
  const directory = mkdtempSync(join(tmpdir(), "caisson-clock-"));
  // PostgreSQL reads it as nobody.
  chmodSync(directory, 0o755);
  after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "offset");
  let offset = 0;
  const set = (seconds: number) => {
    offset = 1000 * seconds;
    // Whoever reads it finds the one or the other.
    writeFileSync(`${file}.new`, `${seconds < 0 ? "" : "+"}${seconds}s\n`, { mode: 0o644 });
    renameSync(`${file}.new`, file);
  };
  set(0);
  return {
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
    },
    set,
    now: () => Date.now() + offset,
  };
}
