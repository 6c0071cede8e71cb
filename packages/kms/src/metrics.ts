// SPDX-License-Identifier: Apache-2.0
/** Counters and one histogram in the Prometheus text format, version 0.0.4. Label values are from closed sets. */

import type { Configuration } from "./configuration.ts";
import type { PolicyWarningCode } from "./policy-set.ts";

/** The format's content type. */
export const metricsType = "text/plain; version=0.0.4; charset=utf-8";

/** Upper bounds of the histogram's buckets, in seconds. */
const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

/** What is counted, and what it means. */
const counters = {
  hellos: "Nonces issued.",
  anchors: "Anchors of volumes that were taken.",
  released: "Releases of keys.",
  denied: "Requests denied, by reason.",
  unlogged: "Denials without an entry in the release log.",
  refused: "Requests refused before they were read, by reason.",
  collateral_fetches: "Looks at the source of collateral, by what came of them.",
  peer_heads: "Heads of other replicas, by whether this one is shown them.",
} as const;

/** The lines of one metric. */
const family = (name: string, type: string, help: string, samples: readonly string[]): string[] => [
  `# HELP ${name} ${help}`,
  `# TYPE ${name} ${type}`,
  ...samples,
];
const gauge = (name: string, help: string, value: number): string[] =>
  family(name, "gauge", help, [`${name} ${value}`]);

export class Metrics {
  readonly #started = Date.now() / 1000;
  /** What is alerted on begins at zero: the first time is an increase only of what was there before. */
  readonly #counts = new Map(
    [
      "hellos_total",
      "released_total",
      "unlogged_total",
      'denied_total{code="log/unavailable"}',
      'refused_total{code="log/unavailable"}',
      'refused_total{code="http/rate-limited"}',
      ...["renewed", "unchanged", "failed"].map((result) => `collateral_fetches_total{result="${result}"}`),
      ...["same", "split", "unknown"].map((outcome) => `peer_heads_total{outcome="${outcome}"}`),
    ].map((name) => [`caisson_kms_${name}`, 0]),
  );
  readonly #buckets = bounds.map(() => 0);
  #sum = 0;
  #observed = 0;
  #configured: {
    successful: boolean;
    at: number;
    collateral: Configuration["collateral"] | undefined;
    /** How many policies in force have each warning. */
    warnings: ReadonlyMap<PolicyWarningCode, number>;
  } = { successful: false, at: 0, collateral: undefined, warnings: new Map() };

  /** `name` without its prefix; `label` is `key="value"` or empty. */
  count(name: keyof typeof counters, label = ""): void {
    const key = `caisson_kms_${name}_total${label === "" ? "" : `{${label}}`}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** Time from request to answer of one release, in seconds. */
  observe(seconds: number): void {
    this.#sum += seconds;
    this.#observed += 1;
    const bucket = bounds.findIndex((bound) => seconds <= bound);
    if (bucket >= 0) this.#buckets[bucket]! += 1;
  }

  /** Policies and collateral were read and are in force: at which second. */
  configured(at: number, { policies, collateral }: Configuration): void {
    this.#configured = { successful: true, at, collateral, warnings: policies.warnings() };
  }

  /** They were read again, and refused: those before are still in force. */
  notConfigured(): void {
    this.#configured.successful = false;
  }

  /** The page that Prometheus reads. */
  render(logEntries: number): string {
    const lines = [
      ...this.#counters(),
      ...this.#releaseTimes(),
      ...this.#configuration(),
      ...gauge("caisson_kms_log_entries", "Entries of the release log.", logEntries),
      ...processMetrics(),
      ...gauge("process_start_time_seconds", "Start, seconds since 1970.", this.#started),
    ];
    return `${lines.join("\n")}\n`;
  }

  #counters(): string[] {
    return Object.entries(counters).flatMap(([name, help]) => {
      const metric = `caisson_kms_${name}_total`;
      const samples = [...this.#counts]
        .filter(([key]) => key === metric || key.startsWith(`${metric}{`))
        .map(([key, value]) => `${key} ${value}`)
        .sort();
      return family(metric, "counter", help, samples);
    });
  }

  #releaseTimes(): string[] {
    const name = "caisson_kms_release_seconds";
    let cumulative = 0;
    const buckets = bounds.map((bound, i) => {
      cumulative += this.#buckets[i]!;
      return `${name}_bucket{le="${bound}"} ${cumulative}`;
    });
    return family(name, "histogram", "From request to answer.", [
      ...buckets,
      `${name}_bucket{le="+Inf"} ${this.#observed}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#observed}`,
    ]);
  }

  #configuration(): string[] {
    const { successful, at, collateral, warnings } = this.#configured;
    const validUntil = collateral?.validUntil;
    return [
      ...gauge(
        "caisson_kms_config_last_reload_successful",
        "Whether policies and collateral were taken when they were last read.",
        Number(successful),
      ),
      ...gauge(
        "caisson_kms_config_last_reload_success_timestamp_seconds",
        "When those in force were read.",
        at,
      ),
      ...family(
        "caisson_kms_policy_warnings",
        "gauge",
        "Policies in force that are allowed and hardly wanted, by reason.",
        [...warnings].map(([code, count]) => `caisson_kms_policy_warnings{code="${code}"} ${count}`),
      ),
      ...(validUntil === undefined
        ? []
        : gauge(
            "caisson_kms_collateral_expiry_timestamp_seconds",
            "When the first of the operator's collateral documents expires.",
            validUntil / 1000,
          )),
    ];
  }
}

function processMetrics(): string[] {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed, external } = process.memoryUsage();
  const cpu = "process_cpu_seconds_total";
  return [
    ...family(cpu, "counter", "Processor time used.", [`${cpu} ${(user + system) / 1e6}`]),
    ...gauge("process_resident_memory_bytes", "Resident memory.", rss),
    ...gauge("nodejs_heap_size_used_bytes", "Heap in use, with what was not collected yet.", heapUsed),
    ...gauge("nodejs_external_memory_bytes", "Memory outside of the heap that objects hold.", external),
  ];
}
