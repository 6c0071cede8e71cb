// SPDX-License-Identifier: Apache-2.0
/**
 * An ordinary container image with nginx, Redis and PostgreSQL, made of Debian's own packages and laid out like the
 * official images: entry points that start as root, prepare directories, and become another user. Made once, kept in the
 * repository's cache by its content.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const cache = new URL("../../.cache/debian/", import.meta.url).pathname;
const packages = ["nginx-light", "redis-server", "postgresql", "gosu"];
/** What no service needs at run time. */
const left = [
  "usr/share/doc/*",
  "usr/share/man/*",
  "usr/share/locale/*",
  "usr/lib/x86_64-linux-gnu/libLLVM*",
  "usr/lib/postgresql/*/lib/llvmjit*",
];

/** In the manner of the official images: what starts as root, and ends as the program itself. */
const entryPoints: Record<string, string> = {
  "nginx.sh": `#!/bin/sh
set -e
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
mkdir -p /var/cache/nginx/client_temp
chown www-data /var/cache/nginx/client_temp
echo "upstream is \${UPSTREAM:-nobody}" > /var/www/html/index.html
exec nginx -g 'daemon off;'
`,
  "redis.sh": `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  find . \\! -user redis -exec chown redis '{}' +
  exec gosu redis "$0" "$@"
fi
exec redis-server --dir /data --bind 0.0.0.0 --protected-mode no "$@"
`,
  "postgres.sh": `#!/bin/sh
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
  echo "host all all all trust" >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  echo "initialised"
fi
exec postgres
`,
};

const sha256 = async (path: string): Promise<string> => {
  const sum = createHash("sha256");
  for await (const chunk of createReadStream(path)) sum.update(chunk as Buffer);
  return sum.digest("hex");
};

/** Directory of an OCI layout with the image; made when the cache does not have it. Needs root and Debian's archive. */
export async function debianImage(): Promise<string> {
  const key = createHash("sha256")
    .update(JSON.stringify({ packages, left, entryPoints }))
    .digest("hex")
    .slice(0, 16);
  const layout = join(cache, `image-${key}`);
  if (existsSync(layout)) return layout;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, ".image-"));
  try {
    const blobs = join(work, "layout/blobs/sha256");
    mkdirSync(blobs, { recursive: true });
    const base = join(work, "base.tar");
    const exclude = left.map((path) => `--dpkgopt=path-exclude=/${path}`);
    execFileSync(
      "mmdebstrap",
      ["--quiet", "--variant=minbase", `--include=${packages.join(",")}`, ...exclude, "bookworm", base],
      { stdio: ["ignore", "inherit", "inherit"] },
    );
    const own = join(work, "own");
    mkdirSync(join(own, "entry"), { recursive: true });
    mkdirSync(join(own, "data"));
    for (const [name, text] of Object.entries(entryPoints))
      writeFileSync(join(own, "entry", name), text, { mode: 0o755 });
    const scripts = join(work, "scripts.tar");
    execFileSync("tar", [
      "--owner=0",
      "--group=0",
      "--mtime=@0",
      "--sort=name",
      "-C",
      own,
      "-cf",
      scripts,
      "entry",
      "data",
    ]);
    const layers = [];
    for (const tar of [base, scripts]) {
      const digest = await sha256(tar);
      layers.push({
        mediaType: "application/vnd.oci.image.layer.v1.tar",
        digest: `sha256:${digest}`,
        size: statSync(tar).size,
      });
      renameSync(tar, join(blobs, digest));
    }
    const blob = (mediaType: string, value: object) => {
      const text = JSON.stringify(value);
      const digest = createHash("sha256").update(text).digest("hex");
      writeFileSync(join(blobs, digest), text);
      return { mediaType, digest: `sha256:${digest}`, size: text.length };
    };
    const config = blob("application/vnd.oci.image.config.v1+json", {
      architecture: "amd64",
      os: "linux",
      config: {
        Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        Cmd: ["/bin/sh"],
      },
      rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
    });
    const manifest = blob("application/vnd.oci.image.manifest.v1+json", {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config,
      layers,
    });
    writeFileSync(join(work, "layout/oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    writeFileSync(
      join(work, "layout/index.json"),
      JSON.stringify({ schemaVersion: 2, manifests: [manifest] }),
    );
    renameSync(join(work, "layout"), layout);
    return layout;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
