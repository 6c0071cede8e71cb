// SPDX-License-Identifier: Apache-2.0
/** A service of a description, for tests. */
import type { Service } from "../guest-config.ts";

/** As an image of one Node program has it; `change` is what the test is about. */
export function plainService(change: Partial<Service> = {}): Service {
  return {
    image: "cd".repeat(32),
    root: "/app/rootfs",
    isolation: "plain",
    range: 0,
    arguments: ["/usr/bin/node", "/server.mjs"],
    environment: { PORT: "8080" },
    workingDirectory: "/",
    user: 1000,
    group: 1000,
    additionalGroups: [],
    readOnly: true,
    layerSize: 2 ** 20,
    tmpfs: [],
    mounts: [],
    files: [],
    capabilities: [],
    memory: 256 * 2 ** 20,
    pids: 64,
    shmSize: 64 * 2 ** 20,
    nofile: { soft: 65_536, hard: 65_536 },
    hostname: "hello",
    networks: {},
    extraHosts: {},
    ports: [{ protocol: "tcp", published: 8080, target: 8080 }],
    egress: "all",
    dependsOn: {},
    restart: { policy: "no" },
    stopSignal: "SIGTERM",
    stopGraceMs: 5_000,
    socket: true,
    key: true,
    ...change,
  };
}
