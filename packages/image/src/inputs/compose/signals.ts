// SPDX-License-Identifier: Apache-2.0
import { type Service, stopSignals } from "@caisson/protocol/guest-config";

/** "TERM", "SIGTERM" or "15". */
export function stopSignal(text: string): Service["stopSignal"] | undefined {
  const numbers: Record<string, string> = {
    1: "HUP",
    2: "INT",
    3: "QUIT",
    9: "KILL",
    10: "USR1",
    12: "USR2",
    15: "TERM",
    28: "WINCH",
  };
  const name = `SIG${(numbers[text] ?? text.toUpperCase()).replace(/^SIG/, "")}`;
  return stopSignals.find((one) => one === name);
}
