// SPDX-License-Identifier: Apache-2.0
/**
 * Ordinary container images made of Debian's own packages and laid out like the official images: entry points that start
 * as root, prepare directories, and become another user. They share one base.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type ImageParts, kept, writeImages } from "./oci-layout.ts";

/** What no service needs at run time. */
const left = [
  "usr/share/doc/*",
  "usr/share/man/*",
  "usr/share/locale/*",
  "usr/lib/x86_64-linux-gnu/libLLVM*",
  "usr/lib/postgresql/*/lib/llvmjit*",
];

export const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** An archive with a root of bookworm and these packages. Needs root and Debian's archive. */
export async function debianRoot(name: string, packages: readonly string[]): Promise<string> {
  const directory = await kept(`root-${name}`, { packages, left }, async (work) => {
    const exclude = left.map((pattern) => `--dpkgopt=path-exclude=/${pattern}`);
    // Java's packages register pages in a directory that the exclusions leave out.
    const hook = `--setup-hook=mkdir -p "$1/usr/share/man/man1"`;
    const all = ["--quiet", "--variant=minbase", hook, `--include=${packages.join(",")}`, ...exclude];
    execFileSync("mmdebstrap", [...all, "bookworm", join(work, "base.tar")], {
      stdio: ["ignore", "inherit", "inherit"],
    });
  });
  return join(directory, "base.tar");
}

/** In the manner of the official images: what starts as root, and ends as the program itself. */
export const entryPoints: Record<string, string> = {
  "entry/nginx.sh": `#!/bin/sh
set -e
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
mkdir -p /var/cache/nginx/client_temp
chown www-data /var/cache/nginx/client_temp
echo "upstream is \${UPSTREAM:-nobody}" > /var/www/html/index.html
exec nginx -g 'daemon off;'
`,
  "entry/redis.sh": `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  find . \\! -user redis -exec chown redis '{}' +
  exec gosu redis "$0" "$@"
fi
exec redis-server --dir /data --bind 0.0.0.0 --protected-mode no "$@"
`,
  "entry/postgres.sh": `#!/bin/sh
set -e
export PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)" PGDATA=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --auth=trust --no-sync > /dev/null
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  {
    echo "create role \${POSTGRES_USER} login password '\${POSTGRES_PASSWORD}'"
    echo "create database \${POSTGRES_DB} owner \${POSTGRES_USER}"
  } | postgres --single postgres > /dev/null
  echo "initialised"
fi
exec postgres
`,
};

export const basePackages =
  "nginx-light redis-server postgresql gosu python3-flask gunicorn uvicorn php-fpm libatomic1".split(" ");
const base = () => debianRoot("base", basePackages);

/** A layout with images by tag, each of the common base and layers of its own. */
export async function debianImages(
  name: string,
  images: Readonly<Record<string, ImageParts>>,
): Promise<string> {
  const root = await base();
  return kept(name, { root, images }, (directory) =>
    writeImages(
      directory,
      Object.fromEntries(
        Object.entries(images).map(([tag, { layers, config }]) => [
          tag,
          { layers: [root, ...layers], config },
        ]),
      ),
    ),
  );
}

/** nginx, Redis and PostgreSQL with their entry points, as one image; and others of the same base by their tags. */
export function debianImage(others: Readonly<Record<string, ImageParts>> = {}): Promise<string> {
  const layers = [{ ...entryPoints, data: { directory: 0o755 } }];
  return debianImages("image", { latest: { layers, config: { Env: [path], Cmd: ["/bin/sh"] } }, ...others });
}
