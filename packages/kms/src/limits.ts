// SPDX-License-Identifier: Apache-2.0
/** What one KMS takes on. A guest needs two requests for a boot. */
export const limits = {
  /** Requests a second, unless the operator says otherwise. */
  perAddress: { perSecond: 5, burst: 40 },
  /**
   * A little more than one core does (about 1,700 boots a second, docs/benchmarks.md): what is shed is shed for want of
   * time.
   */
  common: { perSecond: 4000, burst: 8000 },
  /** Anchors, for each address: a guest whose application makes many promises sends many. */
  anchors: { perSecond: 200, burst: 400 },
  /** Entries for denials, of about 250 bytes: 22 MB a day at most. */
  denials: { perSecond: 1, burst: 1000 },
  /** Lines about requests that anybody can send. */
  lines: { perSecond: 10, burst: 100 },
  connections: 512,
  /** Of platforms seen before, each of which has two. */
  platformSignatures: 4096,
  /** Of all requests in memory. A guest's is about 150 kB. */
  bodies: 64 * 1024 * 1024,
  headerBytes: 8 * 1024,
  silentMs: 2_000,
  requestMs: 10_000,
  idleMs: 5_000,
  /** How often a replica looks for what operators changed at another. */
  followMs: 5_000,
  shutdownMs: 2_000,
};
