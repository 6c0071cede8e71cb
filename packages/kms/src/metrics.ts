/** Counters and one histogram in the Prometheus text format, version 0.0.4. Label values are from closed sets. */

/** Upper bounds of the histogram's buckets, in seconds. */
const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export class Metrics {
  readonly #started = Date.now() / 1000;
  readonly #counts = new Map<string, number>();
  readonly #buckets = bounds.map(() => 0);
  #sum = 0;
  #observed = 0;

  /** `name` without its prefix; `label` is `key="value"` or empty. */
  count(name: "hellos" | "released" | "denied" | "refused", label = ""): void {
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
    counter("released", "Releases of keys.");
    counter("denied", "Requests denied, by reason.");
    counter("refused", "Requests refused before they were read, by reason.");
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
    const { user, system } = process.cpuUsage();
    gauge("caisson_kms_log_entries", "gauge", "Entries of the release log.", logEntries);
    gauge("process_cpu_seconds_total", "counter", "Processor time used.", (user + system) / 1e6);
    gauge("process_resident_memory_bytes", "gauge", "Resident memory.", process.memoryUsage.rss());
    gauge("process_start_time_seconds", "gauge", "Start, seconds since 1970.", this.#started);
    return `${lines.join("\n")}\n`;
  }
}
