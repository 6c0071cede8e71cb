// SPDX-License-Identifier: Apache-2.0
/** On which TCP ports somebody waits for connections, as the kernel says it (Documentation/networking/proc_net_tcp.rst). */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const tcpListen = "0A";
/** A service that opens more is none that has taken the wrong one. */
const most = 16;

/**
 * Ports, sorted, in the network of the process whose directory in /proc is given; none when it has ended. Those of PID 1's
 * user are left out: a plain service shares its network, and no service is root outside of its own namespace.
 */
export function listeningPorts(process: string): number[] {
  const ports = new Set<number>();
  for (const table of ["tcp", "tcp6"]) {
    let text: string;
    try {
      text = readFileSync(join(process, "net", table), "utf8");
    } catch {
      continue; // IPv6 may not be there, and the process may have gone
    }
    for (const line of text.split("\n").slice(1)) {
      const [, local, , state, , , , user] = line.trim().split(/\s+/);
      const port = Number.parseInt(local?.split(":").at(-1) ?? "", 16);
      if (state === tcpListen && port > 0 && user !== "0") ports.add(port);
    }
  }
  return [...ports].sort((a, b) => a - b).slice(0, most);
}
