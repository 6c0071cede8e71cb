// SPDX-License-Identifier: Apache-2.0
/** Counters and one histogram in the Prometheus text format, version 0.0.4. Label values are from closed sets. */

import type { Configuration } from "./configuration.ts";
import type { PolicyWarningCode } from "./policies.ts";

/** The format's content type. */
export const metricsType = "text/plain; version=0.0.4; charset=utf-8";

/** Upper bounds of the histogram's buckets, in seconds. */
const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export class Metrics {
  readonly #started = Date.now() / 1000;
  /** What is alerted on begins at zero: the first time is an increase only of what was there before. */
  readonly #counts = new Map(
    [
      "hellos_total",
      "released_total",
      "unlogged_total",
      'denied_total{code="log/unavailable"}',
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
  count(
    name:
      | "hellos"
      | "anchors"
      | "released"
      | "denied"
      | "unlogged"
      | "refused"
      | "collateral_fetches"
      | "peer_heads",
    label = "",
  ): void {
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
    const codes = [...policies.values()].flatMap(({ warnings }) => warnings.map(({ code }) => code));
    const warnings = new Map<PolicyWarningCode, number>([
      ["policy/host-acpi", 0],
      ["policy/not-covered", 0],
    ]);
    for (const code of codes) warnings.set(code, warnings.get(code)! + 1);
    this.#configured = { successful: true, at, collateral, warnings };
  }

  /** They were read again, and refused: those before are still in force. */
  notConfigured(): void {
    this.#configured.successful = false;
  }

  /** The page that Prometheus reads. */
  render(logEntries: number): string {
    const lines: string[] = [];
    const family = (name: string, type: string, help: string, samples: string[]) => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples);
    };
    const counter = (name: string, help: string) => {
      const metric = `caisson_kms_${name}_total`;
      const samples = [...this.#counts]
        .filter(([key]) => key === metric || key.startsWith(`${metric}{`))
        .map(([key, value]) => `${key} ${value}`)
        .sort();
      family(metric, "counter", help, samples);
    };
    counter("hellos", "Nonces issued.");
    counter("anchors", "Anchors of volumes that were taken.");
    counter("released", "Releases of keys.");
    counter("denied", "Requests denied, by reason.");
    counter("unlogged", "Denials without an entry in the release log.");
    counter("refused", "Requests refused before they were read, by reason.");
    counter("collateral_fetches", "Looks at the source of collateral, by what came of them.");
    counter("peer_heads", "Heads of other replicas, by whether this one is shown them.");
    let cumulative = 0;
    const buckets = bounds.map((bound, i) => {
      cumulative += this.#buckets[i]!;
      return `caisson_kms_release_seconds_bucket{le="${bound}"} ${cumulative}`;
    });
    family("caisson_kms_release_seconds", "histogram", "From request to answer.", [
      ...buckets,
      `caisson_kms_release_seconds_bucket{le="+Inf"} ${this.#observed}`,
      `caisson_kms_release_seconds_sum ${this.#sum}`,
      `caisson_kms_release_seconds_count ${this.#observed}`,
    ]);
    const gauge = (name: string, type: string, help: string, value: number) =>
      family(name, type, help, [`${name} ${value}`]);
    const { successful, at, collateral, warnings } = this.#configured;
    const validUntil = collateral?.validUntil;
    gauge(
      "caisson_kms_config_last_reload_successful",
      "gauge",
      "Whether policies and collateral were taken when they were last read.",
      Number(successful),
    );
    gauge(
      "caisson_kms_config_last_reload_success_timestamp_seconds",
      "gauge",
      "When those in force were read.",
      at,
    );
    family(
      "caisson_kms_policy_warnings",
      "gauge",
      "Policies in force that are allowed and hardly wanted, by reason.",
      [...warnings].map(([code, count]) => `caisson_kms_policy_warnings{code="${code}"} ${count}`),
    );
    if (validUntil !== undefined) {
      gauge(
        "caisson_kms_collateral_expiry_timestamp_seconds",
        "gauge",
        "When the first of the operator's collateral documents expires.",
        validUntil / 1000,
      );
    }
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed, external } = process.memoryUsage();
    gauge("caisson_kms_log_entries", "gauge", "Entries of the release log.", logEntries);
    gauge("process_cpu_seconds_total", "counter", "Processor time used.", (user + system) / 1e6);
    gauge("process_resident_memory_bytes", "gauge", "Resident memory.", rss);
    gauge("nodejs_heap_size_used_bytes", "gauge", "Heap in use, with what was not collected yet.", heapUsed);
    gauge("nodejs_external_memory_bytes", "gauge", "Memory outside of the heap that objects hold.", external);
    gauge("process_start_time_seconds", "gauge", "Start, seconds since 1970.", this.#started);
    return `${lines.join("\n")}\n`;
  }
}
