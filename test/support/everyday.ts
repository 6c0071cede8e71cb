// SPDX-License-Identifier: Apache-2.0
/**
 * What stands behind the web, as people write it in their Dockerfiles: Celery's worker and timer, Mosquitto, Caddy, cron,
 * supervisord over two programs, OpenSSH for files alone, dnsmasq, and a Go service that brings its migrations. Entry points
 * and settings are in the manner of the images that are used most. Needs Go.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { debianRoot, entryPoints, path } from "./debian-image.ts";
import { kept, type Layer, writeImages } from "./oci-layout.ts";

const packages =
  "python3-celery celery python3-redis python3-flask gunicorn redis-server gosu mosquitto mosquitto-clients caddy postgresql cron supervisor nginx-light openssh-server dnsmasq-base ca-certificates tini".split(
    " ",
  );

/** Celery's first steps, with what a site asks of it. */
const tasks = `import os
from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.beat_schedule = {"tick": {"task": "tasks.tick", "schedule": 5.0}}

@app.task
def multiply(a, b):
    return a * b

@app.task
def tick():
    print("ticked", flush=True)
`;
const web = `from flask import Flask, jsonify, request
from tasks import multiply

app = Flask(__name__)

@app.post("/multiply")
def start():
    return jsonify(id=multiply.delay(*request.get_json()).id), 202

@app.get("/result/<id>")
def result(id):
    found = multiply.AsyncResult(id)
    return jsonify(state=found.state, result=found.result if found.successful() else None)
`;

const mosquitto = `#!/bin/sh
set -e
user="$(id -u)"
if [ "$user" = '0' ]; then
  [ -d /mosquitto ] && chown -R mosquitto:mosquitto /mosquitto || true
fi
exec "$@"
`;

/** Each account of the arguments gets a directory of its own, as in the image that people use for this. */
const sftp = `#!/bin/bash
set -e
for account in "$@"; do
  IFS=: read -r name password uid <<< "$account"
  useradd --no-user-group --uid "$uid" --badname "$name"
  echo "$name:$password" | chpasswd
  mkdir -p "/home/$name/.ssh"
  chown root:root "/home/$name"
  chmod 755 "/home/$name"
  cat "/home/$name/.ssh/keys/"* > "/home/$name/.ssh/authorized_keys"
  chown "$name" "/home/$name/.ssh/authorized_keys"
  chmod 600 "/home/$name/.ssh/authorized_keys"
  mkdir -p "/home/$name/upload"
  chown "$name:users" "/home/$name/upload"
done
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -f /etc/ssh/ssh_host_ed25519_key -N ''
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e
`;
const sshd = `HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
PermitRootLogin no
X11Forwarding no
AllowTcpForwarding no
UsePAM yes
Subsystem sftp internal-sftp
ForceCommand internal-sftp
ChrootDirectory %h
`;

const supervisord = `[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=/run/supervisord.pid

[unix_http_server]
file=/run/supervisor.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix:///run/supervisor.sock

[program:nginx]
command=nginx -g 'daemon off;'
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=/dev/stderr
stderr_logfile_maxbytes=0

[program:gunicorn]
command=gunicorn --bind unix:/run/site.sock --user www-data --timeout 300 who:app
directory=/app
stdout_logfile=/dev/fd/1
stdout_logfile_maxbytes=0
redirect_stderr=true
`;
const nginx = `server {
  listen 80 default_server;
  location / { proxy_pass http://unix:/run/site.sock; }
}
`;
const who = `import os
from flask import Flask

app = Flask(__name__)

@app.get("/")
def who():
    return f"{os.getuid()}\\n"
`;

const goFiles = {
  "main.go": `package main

import (
	"context"
	"embed"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrations embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	address := os.Getenv("DATABASE_URL")
	source, err := iofs.New(migrations, "migrations")
	if err != nil {
		log.Fatal(err)
	}
	steps, err := migrate.NewWithSourceInstance("iofs", source, "pgx5://"+address)
	if err != nil {
		log.Fatal(err)
	}
	if err := steps.Up(); err != nil && err != migrate.ErrNoChange {
		log.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, "postgres://"+address)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		var note struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&note); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		if _, err := pool.Exec(r.Context(), "insert into notes (text, tag) values ($1, 'new')", note.Text); err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		w.WriteHeader(201)
	})
	http.HandleFunc("GET /notes", func(w http.ResponseWriter, r *http.Request) {
		rows, err := pool.Query(r.Context(), "select id, text, tag from notes order by id")
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer rows.Close()
		found := []map[string]any{}
		for rows.Next() {
			values, _ := rows.Values()
			found = append(found, map[string]any{"id": values[0], "text": values[1], "tag": values[2]})
		}
		json.NewEncoder(w).Encode(found)
	})
	server := &http.Server{Addr: ":8000"}
	go func() { <-ctx.Done(); server.Shutdown(context.Background()) }()
	log.Print("listening")
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	log.Print("stopped")
}
`,
  "go.mod": `module notes

go 1.24

require (
	github.com/golang-migrate/migrate/v4 v4.19.0
	github.com/jackc/pgx/v5 v5.7.6
)
`,
  "migrations/1_notes.up.sql": "create table notes (id serial primary key, text text not null);\n",
  "migrations/1_notes.down.sql": "drop table notes;\n",
  "migrations/2_tags.up.sql": "alter table notes add column tag text not null default 'old';\n",
  "migrations/2_tags.down.sql": "alter table notes drop column tag;\n",
};

async function goService(): Promise<Layer> {
  const directory = await kept("go-notes", goFiles, async (work) => {
    const source = join(work, "source");
    for (const [file, text] of Object.entries(goFiles)) {
      mkdirSync(dirname(join(source, file)), { recursive: true });
      writeFileSync(join(source, file), text);
    }
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod -buildvcs=false" };
    const quiet = { cwd: source, env, stdio: ["ignore", "ignore", "inherit"] as const };
    execFileSync("go", ["mod", "tidy"], { ...quiet, stdio: ["ignore", "ignore", "inherit"] });
    execFileSync("go", ["build", "-trimpath", "-ldflags=-s -w", "-o", join(work, "notes"), "."], {
      ...quiet,
      stdio: ["ignore", "ignore", "inherit"],
    });
  });
  return { notes: readFileSync(join(directory, "notes")) };
}

/** A layout with the tags celery, redis, postgres, mosquitto, caddy, cron, supervisor, sftp, dnsmasq and notes. */
export async function everydayImages(): Promise<string> {
  const root = await debianRoot("everyday", packages);
  const notes = await goService();
  const files: Record<string, Layer> = {
    celery: { "app/tasks.py": tasks, "app/web.py": web },
    stores: { ...entryPoints, data: { directory: 0o755 } },
    mosquitto: {
      "docker-entrypoint.sh": mosquitto,
      "mosquitto/data": { directory: 0o755 },
      "mosquitto/config": { directory: 0o755 },
      "mosquitto/log": { directory: 0o755 },
    },
    caddy: {
      "etc/caddy/Caddyfile": ":80 {\n\troot * /usr/share/caddy\n\tfile_server\n}\n",
      config: { directory: 0o755 },
      data: { directory: 0o755 },
    },
    supervisor: {
      "etc/supervisor/supervisord.conf": supervisord,
      "etc/nginx/sites-enabled/default": nginx,
      "app/who.py": who,
      "var/log/nginx/access.log": { symlink: "/dev/stdout" },
      "var/log/nginx/error.log": { symlink: "/dev/stderr" },
    },
    sftp: { entrypoint: sftp, "etc/ssh/sshd_config": sshd },
  };
  const over = (name: string, config: object) => ({
    layers: [root, files[name]!],
    config: { Env: [path], ...config },
  });
  return kept("everyday", { root, files, notes: goFiles, images: 1 }, (directory) =>
    writeImages(directory, {
      celery: over("celery", { Env: [path, "PYTHONUNBUFFERED=1"], WorkingDir: "/app", User: "1000" }),
      redis: over("stores", {
        WorkingDir: "/data",
        Entrypoint: ["/entry/redis.sh"],
        Volumes: { "/data": {} },
        ExposedPorts: { "6379/tcp": {} },
      }),
      postgres: over("stores", {
        Entrypoint: ["/entry/postgres.sh"],
        Volumes: { "/var/lib/postgresql/data": {} },
        ExposedPorts: { "5432/tcp": {} },
        StopSignal: "SIGINT",
      }),
      mosquitto: over("mosquitto", {
        Entrypoint: ["/docker-entrypoint.sh"],
        Cmd: ["/usr/sbin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"],
        Volumes: { "/mosquitto/data": {}, "/mosquitto/log": {} },
        ExposedPorts: { "1883/tcp": {} },
      }),
      caddy: over("caddy", {
        Env: [path, "XDG_CONFIG_HOME=/config", "XDG_DATA_HOME=/data"],
        Cmd: ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"],
        WorkingDir: "/srv",
        ExposedPorts: { "80/tcp": {}, "443/tcp": {}, "443/udp": {}, "2019/tcp": {} },
      }),
      cron: { layers: [root], config: { Env: [path], Cmd: ["cron", "-f"] } },
      supervisor: over("supervisor", {
        Cmd: ["/usr/bin/supervisord", "-c", "/etc/supervisor/supervisord.conf"],
        ExposedPorts: { "80/tcp": {} },
      }),
      sftp: over("sftp", {
        Entrypoint: ["/usr/bin/tini", "--", "/entrypoint"],
        ExposedPorts: { "22/tcp": {} },
      }),
      dnsmasq: {
        layers: [root],
        config: { Env: [path], Entrypoint: ["dnsmasq", "--keep-in-foreground", "--log-facility=-"] },
      },
      notes: {
        layers: [notes],
        config: { User: "65532:65532", Entrypoint: ["/notes"], ExposedPorts: { "8000/tcp": {} } },
      },
    }),
  );
}
