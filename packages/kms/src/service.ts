// SPDX-License-Identifier: Apache-2.0
/**
 * One KMS, whoever asks it: its secret, store, log and rows, and the configuration that it decides by.
 *
 * Invariants: the configuration is replaced as a whole, by readings that come one after the other, so that the newest
 * counts in the end; log lines are built from ids, codes and numbers, so there is no place where a secret could enter.
 */
import { join } from "node:path";
import { deriveKmsKey } from "@caisson/protocol/derivation";
import type { ProvenanceJudge } from "@caisson/releases/provenance";
import { Signatures } from "@caisson/verify";
import { messageOf } from "@caisson/vocabulary/failure";
import { Applications } from "./applications.ts";
import { CollateralSource, type CollateralSourceOptions } from "./collateral-source.ts";
import {
  type Configuration,
  type ConfigurationSource,
  followConfiguration,
  loadConfiguration,
} from "./configuration.ts";
import { KmsError } from "./errors.ts";
import { FollowedLog, type LogToFollow } from "./followed-log.ts";
import { followingRows } from "./following-rows.ts";
import { limits } from "./limits.ts";
import { Metrics } from "./metrics.ts";
import { Newcomers } from "./newcomers.ts";
import { Nonces } from "./nonces.ts";
import { type Operators } from "./operator-request.ts";
import { Administration, type SignedReading } from "./operators.ts";
import { checkContains, type GivenHead, PeerHeads } from "./peer-heads.ts";
import { loadManifests } from "./policies.ts";
import { Bucket } from "./rate-limit.ts";
import type { ReleaseContext } from "./release.ts";
import { openRootSecret } from "./root-secret.ts";
import { Roots } from "./roots.ts";
import { publishSharesOnce, type SharesDocument } from "./shares.ts";
import { Signer } from "./signer.ts";
import { openLogStore } from "./store/open.ts";
import { type Store, storeKeys } from "./store/store.ts";
import { VolumeBook } from "./volumes/book.ts";

export interface ServiceOptions {
  /** Directory of root secret and release log; the secret is there (`createRootSecret`), the log is made. */
  data: string;
  /** PostgreSQL servers of the log and rows, instead of a file in `data`: the one that takes writes is used. */
  databases?: readonly string[];
  /** `data` is on a persistent volume: resolves once everything that was written there before is anchored (docs/state.md). */
  checkpoint?: () => Promise<void>;
  /** Directory of policy files and manifests (policies.ts). Without it, policies are what operators signed. */
  policies?: string;
  /** The first operators, named where the store has none yet (operators.ts). */
  operators?: Operators;
  /** Shares that were just made of this root secret: named in the log, and published, where these keepers have none yet. */
  shares?: SharesDocument;
  /** What the log has to have, as somebody saw it before this process: otherwise it does not start. */
  contains?: GivenHead;
  /** Other replicas, whose heads are looked for in the log (peer-heads.ts). */
  peers?: readonly string[];
  /** Allow policies that accept evidence of the emulated platform. Default: such a policy is an error. */
  development?: boolean;
  /** Directory of collateral documents, which go before what guests bring (collateral-cache.ts). */
  collateral?: string;
  /** Whom to ask for collateral instead, and what Intel's set is called; it is kept in `data`. */
  collateralSource?: Pick<CollateralSourceOptions, "from" | "update" | "limits">;
  /** The log of releases that is followed. Default: none; then what was proved here is all that is remembered. */
  follow?: LogToFollow;
  /** Judges who built an image (`@caisson/provenance`), for policies that ask for it. Default: those get no keys. */
  provenance?: ProvenanceJudge;
  /** Where log lines go, one JSON object each. Default: nowhere. */
  log?: (line: string) => void;
  /** Milliseconds since 1970. Default: the system clock. */
  now?: () => number;
  /** Milliseconds by which rates are kept, of a clock that nobody sets. Default: that of this process. */
  elapsed?: () => number;
}

/** For how long a start, or what operators change, waits for the log that is followed; ms. */
const logWaitMs = 60_000;

/** One log line: ids, codes and numbers only. */
export type WriteLine = (event: string, fields?: Record<string, string | number>) => void;

type Context = Omit<ReleaseContext, keyof Configuration> & { volumes: VolumeBook; roots: Roots };

/** A reading that waits for the one before it, and whether files are read, too. */
interface Turn {
  files: boolean;
  readonly done: Promise<boolean>;
}

export class Service {
  readonly context: Context;
  readonly store: Store;
  readonly administration: Administration;
  readonly metrics: Metrics;
  readonly write: WriteLine;
  readonly #source: ConfigurationSource;
  readonly #followed: FollowedLog | undefined;
  readonly #peers: PeerHeads;
  readonly #timer: NodeJS.Timeout;
  #configuration: Configuration;
  /** The last reading that was asked for, and the one of them that has not begun. */
  #reloading: Promise<unknown> = Promise.resolve();
  #waiting: Turn | undefined;

  /** `openService` makes one. */
  constructor(parts: {
    context: Context;
    store: Store;
    administration: Administration;
    metrics: Metrics;
    write: WriteLine;
    source: ConfigurationSource;
    followed: FollowedLog | undefined;
    peers: PeerHeads;
    configuration: Configuration;
  }) {
    this.context = parts.context;
    this.store = parts.store;
    this.administration = parts.administration;
    this.metrics = parts.metrics;
    this.write = parts.write;
    this.#source = parts.source;
    this.#followed = parts.followed;
    this.#configuration = parts.configuration;
    this.#followed?.start();
    this.#peers = parts.peers;
    this.#peers.start();
    this.#timer = setInterval(() => this.#lookForChanges(), limits.followMs).unref();
    // A million lines take seconds, in which nobody waits yet.
    this.#decideBy(this.#configuration);
  }

  /** Replaced as a whole: a request takes it once. */
  get configuration(): Configuration {
    return this.#configuration;
  }

  /** Writes down that it serves at `url`. */
  started(url: string): void {
    const identityKey = this.context.identity.publicKey.toHex();
    this.write("started", { url, identityKey, logEntries: this.store.head.sequence });
  }

  /** Reads what operators can change again, files too (`Kms.reload`). */
  reload(): Promise<boolean> {
    return this.#inTurn(true);
  }

  /** Reads what operators signed again, at whichever replica. */
  follow(): Promise<boolean> {
    return this.#inTurn(false);
  }

  #inTurn(files: boolean): Promise<boolean> {
    // One that has not begun finds what is there when it begins: it serves all who ask until then.
    this.#waiting ??= this.#nextTurn();
    this.#waiting.files ||= files;
    return this.#waiting.done;
  }

  #nextTurn(): Turn {
    const turn: Turn = {
      files: false,
      done: this.#reloading.then(() => {
        this.#waiting = undefined;
        return this.#reload(turn.files);
      }),
    };
    this.#reloading = turn.done;
    return turn;
  }

  /** `served` resolves once nobody is served any more; then the log is closed. */
  async close(served: Promise<void> = Promise.resolve()): Promise<void> {
    this.#followed?.stop();
    this.#peers.stop();
    clearInterval(this.#timer);
    await this.#source.fetched?.stop();
    await served;
    this.write("stopped", { logEntries: this.store.head.sequence });
    await this.store.close();
  }

  /** Writes down which policies are others than those `before`. */
  #decideBy(configuration: Configuration, before?: Configuration): void {
    this.#configuration = configuration;
    this.metrics.configured(this.context.now() / 1000, configuration);
    const { policies } = configuration;
    for (const { app, digest, keyVersion, warned } of policies.list(before?.policies)) {
      this.write("policy", { app, keyVersion, digest: digest.toHex() });
      if (!warned) continue;
      for (const { code, message } of policies.get(app)!.warnings)
        this.write("warning", { app, code, message });
    }
  }

  async #reload(files: boolean): Promise<boolean> {
    const read = files ? loadConfiguration : followConfiguration;
    await this.#followed?.updateWithin(logWaitMs);
    try {
      await this.administration.refresh(files);
      await this.context.roots.refresh();
      const now = new Date(this.context.now());
      const { inForce } = this.administration;
      const configuration = await read(this.#source, now, inForce, this.#configuration);
      if (this.#followed?.want(configuration.policies.identities()) === true) {
        await this.#followed.updateWithin(logWaitMs);
      }
      this.#decideBy(configuration, this.#configuration);
      void this.#source.fetched?.renew();
      // What the log is given takes turns: a release that was judged by what was in force before is in it, or is none.
      await this.store.commit({}).catch(() => undefined);
      this.write("reloaded", { logEntries: this.store.head.sequence });
      return true;
    } catch (error) {
      this.metrics.notConfigured();
      const code = error instanceof KmsError ? error.code : "internal";
      this.write("reload-failed", { code, message: messageOf(error) });
      return false;
    }
  }

  /** What operators signed at another replica, or what a reading that failed did not take. */
  #lookForChanges(): void {
    const isBehind = () => this.administration.inForce.guard?.version !== this.#configuration.guard?.version;
    Promise.all([this.administration.refresh(), this.context.roots.refresh()]).then(
      () => isBehind() && this.follow(),
      (error: unknown) => this.write("store-failed", { message: messageOf(error) }),
    );
  }
}

/** Opens secret and store, and reads what it decides by. Throws KmsError. */
export async function openService(options: ServiceOptions): Promise<Service> {
  const { development = false, now = Date.now } = options;
  const secret = openRootSecret(options.data, { development });
  const { data, databases = [], checkpoint } = options;
  const store = await openLogStore(data, databases, secret, checkpoint);
  try {
    if (options.contains !== undefined) await checkContains(store, options.contains);
    return await readService(options, { secret, store, development, now });
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function readService(
  options: ServiceOptions,
  opened: { secret: Uint8Array; store: Store; development: boolean; now: () => number },
): Promise<Service> {
  const { secret, store, development, now } = opened;
  const { elapsed = () => performance.now() } = options;
  const { identity } = storeKeys(secret);
  const identityKey = identity.publicKey.toHex();
  const write: WriteLine = (event, fields = {}) =>
    options.log?.(logLine({ time: new Date(now()).toISOString(), event, ...fields }));
  const metrics = new Metrics();
  const source: ConfigurationSource = {
    ...sourceOf(options, now, write, metrics),
    identityKey,
    development,
  };
  const volumes = new VolumeBook(store, secret, identity, now);
  const administration = await openAdministration(options, source, { store, volumes, now, write });
  const configuration = await loadConfiguration(source, new Date(now()), administration.inForce);
  if (configuration.policies.size === 0 && (await administration.operators()) === undefined) {
    throw new KmsError("policy/none", "this KMS has neither policies nor operators who could sign some");
  }
  const followed =
    options.follow && new FollowedLog(options.follow, identityKey, followingRows(store, now), now, write);
  followed?.want(configuration.policies.identities());
  await followed?.updateWithin(logWaitMs);
  if (options.shares !== undefined) await publishSharesOnce(store, options.shares);
  const roots = new Roots(secret, store);
  await roots.refresh();
  const context = {
    roots,
    identity,
    signer: new Signer(identity),
    store,
    denials: new Bucket(limits.denials, elapsed()),
    platforms: new Signatures(limits.platformSignatures),
    nonces: new Nonces(deriveKmsKey(secret, "nonces"), () => store.head.sequence),
    volumes,
    applications: new Applications(store, followed),
    newcomers: new Newcomers(
      () => administration.refresh(),
      (app) => administration.inForce.policies.has(app),
      elapsed,
    ),
    ...(options.provenance !== undefined && { provenance: options.provenance }),
    now,
    elapsed,
  };
  const { peers: urls = [] } = options;
  const peers = new PeerHeads({ peers: urls, identity: identity.publicKey, store, metrics, write });
  return new Service({
    context,
    store,
    administration,
    metrics,
    write,
    source,
    followed,
    peers,
    configuration,
  });
}

/** What operators signed, read; named for the first time where nobody was. Throws KmsError. */
async function openAdministration(
  { policies, data, operators }: ServiceOptions,
  { identityKey, development }: Pick<ConfigurationSource, "identityKey" | "development">,
  { store, volumes, now, write }: { store: Store; volumes: VolumeBook; now: () => number; write: WriteLine },
): Promise<Administration> {
  const reading: SignedReading = {
    manifests: () => loadManifests(join(policies ?? data, "manifests")),
    identityKey,
    development,
    leftOut: (app, { code, message }) => write("warning", { app, code, message }),
  };
  const administration = new Administration(store, reading, now, volumes);
  if (operators !== undefined) await administration.begin(operators);
  await administration.refresh(true);
  return administration;
}

/** Where policies and collateral come from. */
function sourceOf(
  { policies, collateral, collateralSource, data }: ServiceOptions,
  now: () => number,
  say: WriteLine,
  metrics: Metrics,
): Pick<ConfigurationSource, "policies" | "collateral" | "fetched"> {
  const fetched =
    collateralSource &&
    new CollateralSource({
      ...collateralSource,
      directory: join(data, "collateral"),
      now,
      say,
      count: (result) => metrics.count("collateral_fetches", `result="${result}"`),
    });
  return {
    ...(policies !== undefined && { policies }),
    ...(collateral !== undefined && { collateral }),
    ...(fetched && { fetched }),
  };
}

/** JSON in ASCII: what a client sent cannot move a terminal's cursor, or turn the direction of its text. */
function logLine(document: object): string {
  return JSON.stringify(document).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
