// SPDX-License-Identifier: Apache-2.0
/** PostgreSQL as Debian ships it: a server of a test's own, on a free port of loopback, in a directory of its own. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { freeTcpPort } from "@caisson/host/ports";

/** Where the newest version lies: Debian has no name for its programs in the path. */
const programs = globSync("/usr/lib/postgresql/*/bin").sort().at(-1) ?? "";
/** It refuses to run as root: then it is nobody's. */
const owner = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
const user = "kms";
/** After a crash it synchronizes its whole directory first, which a busy disk makes slow. */
const startMs = 120_000;

export interface Postgres {
  readonly port: number;
  /** A new database of this server. */
  database(): string;
  /** Runs SQL and returns what `psql` prints. */
  sql(database: string, sql: string): string;
  /** `fast` ends sessions first; `immediate` is a crash. */
  stop(how: "fast" | "immediate"): Promise<void>;
  start(): Promise<void>;
  /** Another server that follows this one; commits wait for it. */
  standby(): Promise<Postgres>;
  /** Makes a standby take writes. */
  promote(): void;
}

function run(program: string, ...args: string[]): string {
  return execFileSync(join(programs, program), args, {
    ...owner,
    cwd: tmpdir(),
    encoding: "utf8",
    timeout: 60_000,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C" },
  });
}

function directory(after: (end: () => void) => void): string {
  const path = mkdtempSync(join(tmpdir(), "caisson-postgresql-"));
  chmodSync(path, 0o700);
  if (owner.uid !== undefined) chownSync(path, owner.uid, owner.gid);
  after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Starts a new server; `after` gets what ends and removes it. `env` is added to this process's for it. */
export async function startPostgres(
  after: (end: () => Promise<void> | void) => void,
  env: NodeJS.ProcessEnv = {},
): Promise<Postgres> {
  const data = join(directory(after), "data");
  run(
    "initdb",
    "--pgdata",
    data,
    "--username",
    user,
    "--auth",
    "trust",
    "--encoding",
    "UTF8",
    "--no-instructions",
  );
  return serve(data, await freeTcpPort(), after, env);
}

async function serve(
  data: string,
  port: number,
  after: (end: () => Promise<void> | void) => void,
  env: NodeJS.ProcessEnv,
): Promise<Postgres> {
  writeFileSync(
    join(data, "postgresql.auto.conf"),
    [
      `port = ${port}`,
      "listen_addresses = '127.0.0.1'",
      "unix_socket_directories = ''",
      "max_connections = 60",
    ]
      .concat(
        "recovery_init_sync_method = syncfs",
        "wal_level = replica",
        "shared_buffers = 32MB",
        "max_wal_senders = 4",
        "hot_standby = on",
        "",
      )
      .join("\n"),
    { flag: "a" },
  );
  let child: ChildProcess | undefined;
  const start = async () => {
    const how = { ...owner, cwd: tmpdir(), stdio: "ignore", env: { ...process.env, ...env } } as const;
    child = spawn(join(programs, "postgres"), ["-D", data], how);
    const limit = performance.now() + startMs;
    for (;;) {
      try {
        run("psql", ...session("postgres"), "-c", "SELECT 1");
        return;
      } catch (error) {
        if (performance.now() > limit || child.exitCode !== null) throw error;
        await setTimeout(100);
      }
    }
  };
  const session = (database: string) => [
    "-h",
    "127.0.0.1",
    "-p",
    String(port),
    "-U",
    user,
    "-d",
    database,
    "-qAt",
  ];
  const stop = async (how: "fast" | "immediate") => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    // PostgreSQL's own words for these signals: SIGINT is fast, SIGQUIT immediate.
    child.kill(how === "fast" ? "SIGINT" : "SIGQUIT");
    await ended;
  };
  await start();
  after(() => stop("immediate"));
  let databases = 0;
  const sql = (database: string, text: string) =>
    run("psql", ...session(database), "-v", "ON_ERROR_STOP=1", "-c", text).trim();
  return {
    port,
    database: () => {
      const name = `kms${databases++}`;
      sql("postgres", `CREATE DATABASE ${name}`);
      return `postgresql://${user}@127.0.0.1:${port}/${name}`;
    },
    sql: (database, text) => sql(new URL(database).pathname.slice(1), text),
    stop,
    start,
    standby: async () => {
      const copy = join(directory(after), "data");
      const from = ["-h", "127.0.0.1", "-p", String(port), "-U", user];
      run(
        "pg_basebackup",
        ...from,
        "-D",
        copy,
        "--checkpoint=fast",
        "--write-recovery-conf",
        "--wal-method=stream",
      );
      const standby = await serve(copy, await freeTcpPort(), after, env);
      sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
      sql("postgres", "SELECT pg_reload_conf()");
      return standby;
    },
    promote: () => {
      run("pg_ctl", "promote", "-D", data, "-w");
      sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
      sql("postgres", "SELECT pg_reload_conf()");
    },
  };
}
