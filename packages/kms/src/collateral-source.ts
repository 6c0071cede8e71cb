// SPDX-License-Identifier: Apache-2.0
/**
 * Collateral that a KMS fetches by itself, from Intel or from a mirror, and renews while a third of its validity is left.
 *
 * Invariants: nothing is fetched for what anybody can make up: a platform is known once a policy names it, or a PCK
 * certificate of it led to an accepted root; their number is bounded, each has one request under way at most, and what
 * fails is asked again after doubling delays. Releases wait for a source in the first `firstMs` of a platform alone,
 * and only while it has no collateral yet. What is there goes on under its own dates, which are checked at every
 * release; none is ever extended.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { fetchIntel, type IntelPlatform, intelPlatformOf, type World } from "@caisson/client/collateral";
import { directoryStore } from "@caisson/client/collateral-store";
import { type Evidence, type TrustAnchor, VerifyError } from "@caisson/verify";
import { type VerifiedCollateral, verifyCollateral } from "@caisson/verify/collateral";
import { verifyOwnChain } from "@caisson/verify/quote-chain";
import { Failure, messageOf } from "@caisson/vocabulary/failure";

/** Whom a KMS asks, and when. */
export interface CollateralSourceOptions {
  /** "pcs", or the base of a PCCS or mirror. */
  from: string;
  /** Which of Intel's sets. Default: standard. */
  update?: "standard" | "early" | number;
  /** Where what was fetched outlives the process. */
  directory: string;
  now: () => number;
  /** Log lines. */
  say: (event: string, fields: Record<string, string | number>) => void;
  /** How a renewal ended; for metrics. */
  count?: (result: "renewed" | "unchanged" | "failed") => void;
  /** In place of the network (tests). */
  fetch?: World["fetch"];
  limits?: Partial<typeof defaults>;
}

const defaults = {
  /** How often it is looked whether something is due; what is fresh costs no request. */
  everyMs: 3_600_000,
  /** After a failure: this, doubled each time, up to `everyMs`. */
  retryMs: 60_000,
  /** How long releases wait for the collateral of a platform from when it is known first. */
  firstMs: 5_000,
  /** How long a busy source is waited for, which says with Retry-After when to come again. */
  patienceMs: 3_600_000,
  /** Intel knows some hundred kinds of platform. */
  platforms: 256,
};

interface Known {
  readonly platform: IntelPlatform;
  readonly trust: TrustAnchor;
  /** Until when releases wait for what it has not yet (`performance.now`). */
  readonly until: number;
  verified?: VerifiedCollateral;
  /** The TCB info that `verified` has, exactly. */
  text?: string;
  failures: number;
  running?: Promise<void>;
  timer?: NodeJS.Timeout;
}

export class CollateralSource {
  readonly #options: CollateralSourceOptions;
  readonly #limits: typeof defaults;
  readonly #known = new Map<string, Known>();
  readonly #stopped = new AbortController();

  constructor(options: CollateralSourceOptions) {
    this.#options = options;
    this.#limits = { ...defaults, ...options.limits };
  }

  /** When the first of what was fetched expires, ms since 1970; undefined while there is nothing. */
  get validUntil(): number | undefined {
    const all = [...this.#known.values()].flatMap(({ verified }) => verified?.validUntil ?? []);
    return all.length === 0 ? undefined : Math.min(...all);
  }

  /** Kinds of platform whose collateral is kept up to date. */
  get platforms(): number {
    return this.#known.size;
  }

  /** Platforms that policies name: their collateral is there before their first guest. */
  expect(platforms: readonly { fmspc: string; trust: TrustAnchor }[]): void {
    for (const { fmspc, trust } of platforms) this.#learn({ tee: "tdx", fmspc, ca: "platform" }, trust);
  }

  /** Collateral of the evidence's platform; undefined where none could be had in time. Throws VerifyError "quote/…". */
  async find({ quote }: Evidence, trust: TrustAnchor, now: Date): Promise<VerifiedCollateral | undefined> {
    const platform = namedBy(quote);
    if (platform === undefined) return undefined;
    let known = this.#known.get(placeOf(platform, trust));
    if (known === undefined) {
      if (!(await verifyOwnChain(quote, trust, now))) return undefined;
      known = this.#learn(platform, trust);
    }
    const left = (known?.until ?? 0) - performance.now();
    if (left > 0 && known?.verified === undefined && known?.running !== undefined) {
      const enough = new AbortController();
      const waited = sleep(left, undefined, { signal: enough.signal }).catch(() => {});
      await Promise.race([known.running, waited]);
      enough.abort();
    }
    return known?.verified;
  }

  /** Looks at once whether something is due, whatever failed before. */
  async renew(): Promise<void> {
    await Promise.all([...this.#known.values()].map((known) => this.#renew(known)));
  }

  /** Ends what is under way. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    for (const { timer } of this.#known.values()) clearTimeout(timer);
    await Promise.all([...this.#known.values()].flatMap(({ running }) => running ?? []));
  }

  #learn(platform: IntelPlatform, trust: TrustAnchor): Known | undefined {
    const place = placeOf(platform, trust);
    const known = this.#known.get(place);
    if (known !== undefined || this.#stopped.signal.aborted) return known;
    if (this.#known.size >= this.#limits.platforms) return undefined;
    const until = performance.now() + this.#limits.firstMs;
    const learnt: Known = { platform, trust, until, failures: 0 };
    this.#known.set(place, learnt);
    void this.#renew(learnt);
    return learnt;
  }

  #renew(known: Known): Promise<void> {
    known.running ??= this.#fetch(known).finally(() => {
      delete known.running;
      this.#schedule(known);
    });
    return known.running;
  }

  #schedule(known: Known): void {
    clearTimeout(known.timer);
    if (this.#stopped.signal.aborted) return;
    const { everyMs, retryMs } = this.#limits;
    const delay = known.failures === 0 ? everyMs : Math.min(everyMs, retryMs * 2 ** (known.failures - 1));
    // Replicas that started together do not ask together.
    known.timer = setTimeout(() => void this.#renew(known), delay * (0.8 + 0.4 * Math.random())).unref();
  }

  async #fetch(known: Known): Promise<void> {
    const { say, count } = this.#options;
    const { fmspc } = known.platform;
    try {
      const { verified, renewed, because } = await this.#take(known);
      const expires = new Date(verified.validUntil).toISOString();
      if (renewed) say("collateral-renewed", { fmspc, expires });
      if (because !== undefined) return this.#failed(known, "collateral/unreachable", because);
      known.failures = 0;
      count?.(renewed ? "renewed" : "unchanged");
    } catch (error) {
      // At the end of the process nobody failed.
      if (this.#stopped.signal.aborted) return;
      this.#failed(known, error instanceof Failure ? error.code : "internal", messageOf(error));
    }
  }

  #failed(known: Known, code: string, message: string): void {
    known.failures += 1;
    const { verified, platform } = known;
    const expires = verified && { expires: new Date(verified.validUntil).toISOString() };
    this.#options.say("collateral-not-renewed", { fmspc: platform.fmspc, code, message, ...expires });
    this.#options.count?.("failed");
  }

  /** Fetches, verifies and puts in place; `because`: why what was kept had to serve. */
  async #take(
    known: Known,
  ): Promise<{ verified: VerifiedCollateral; renewed: boolean; because: string | undefined }> {
    const { from, update, directory, fetch: own = fetch } = this.#options;
    const { signal } = this.#stopped;
    const now = new Date(this.#options.now());
    const { collateral, provenance } = await fetchIntel(known.platform, {
      from,
      now,
      trust: known.trust,
      store: directoryStore(directory),
      patienceMs: this.#limits.patienceMs,
      fetch: (url, init) => own(url, { ...init, signal: AbortSignal.any([init.signal, signal]) }),
      sleep: (ms) => sleep(ms, undefined, { signal, ref: false }),
      ...(update !== undefined && { update }),
    });
    const verified = await verifyCollateral(collateral, now, known.trust);
    const renewed = known.verified?.validUntil !== verified.validUntil || known.text !== collateral.tcb_info;
    known.verified = verified;
    known.text = collateral.tcb_info;
    return { verified, renewed, because: provenance.flatMap(({ because }) => because ?? [])[0] };
  }
}

const placeOf = ({ tee, fmspc, ca }: IntelPlatform, trust: TrustAnchor) =>
  `${trust.rootKey.toHex()} ${tee} ${fmspc} ${ca}`;

/** The platform that a quote says it is of; undefined where it says nothing, or nothing that can be read. */
function namedBy(quote: Uint8Array): IntelPlatform | undefined {
  try {
    return intelPlatformOf(quote);
  } catch (error) {
    // What is wrong with a quote, verification says.
    if (error instanceof VerifyError || error instanceof Failure) return undefined;
    throw error;
  }
}
