/** `caisson.yaml`: what a user says about an image. */

/** Where the application's OCI image comes from. */
export type AppSource =
  /** An OCI image layout directory (absolute path). */
  | { kind: "layout"; directory: string }
  /** A registry reference by digest. */
  | { kind: "registry"; registry: string; repository: string; digest: string }
  /** Caisson makes the OCI image itself: the pinned Node and this directory (absolute path), `server.mjs` is run. */
  | { kind: "node"; directory: string };

export interface App {
  source: AppSource;
  /** The TCP port on which the application listens. */
  port: number;
  /** Added to, and overriding, the image's own. */
  environment: Record<string, string>;
  /** Replaces the image's Cmd. */
  arguments?: string[];
  /** Limit in bytes. */
  memory: number;
  /** Limit on the number of processes and threads. */
  pids: number;
}

export interface Spec {
  version: 1;
  name: string;
  archive: {
    /** Primary or subkey fingerprints, upper-case hex, one of which must have signed each index. */
    keys: string[];
    /** Suites whose index may have expired, and the day (ISO 8601) by which it is judged instead of today. */
    as_of: Record<string, string>;
  };
  app: App;
  time: { secure_time: boolean; sources: string[] };
  kms: { identity?: string };
  /** Absolute path of the file, and of the directory that relative paths start from. */
  path: string;
  directory: string;
}
