// SPDX-License-Identifier: Apache-2.0
/**
 * What others wrote and nobody made for us, by docs/application.md alone, with compose files as their projects publish
 * them: WordPress over MariaDB, Prometheus with an exporter, a Django site with migrations, Node-RED from npm. Images are
 * Debian's packages, laid out like the official ones.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { debianRoot, path } from "../support/debian-image.ts";
import { mariadbImage } from "../support/mariadb.ts";
import { kept, writeImages } from "../support/oci-layout.ts";
import { fromNpm } from "../support/pypi.ts";
import { type ServiceMachine, startServices, until, writeSpec } from "../support/services.ts";

const place = mkdtempSync(join(tmpdir(), "caisson-projects-"));
let machine: ServiceMachine;

const packages =
  "prometheus prometheus-node-exporter wordpress apache2 libapache2-mod-php php-mysql mariadb-server gosu python3-django gunicorn".split(
    " ",
  );

/** As WordPress's: the code is copied into the volume for its server's user, the configuration asks the environment. */
const wordpress = `#!/bin/sh
set -e
if [ ! -e /var/www/html/index.php ]; then
  tar --create --dereference --directory /usr/share/wordpress --owner www-data --group www-data . |
    tar --extract --directory /var/www/html
  cp /usr/src/wp-config.php /var/www/html/wp-config.php
fi
exec "$@"
`;
const wordpressConfig = `<?php
foreach (['NAME', 'USER', 'PASSWORD', 'HOST'] as $name) define("DB_$name", getenv("WORDPRESS_DB_$name"));
define('DB_CHARSET', 'utf8mb4');
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('DISABLE_WP_CRON', true);
define('WP_DEFAULT_THEME', 'plain');
foreach (['AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE'] as $name) {
  define("{$name}_KEY", sha1($name));
  define("{$name}_SALT", sha1("$name salt"));
}
$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
`;
/** Debian has its themes in packages of their own. */
const theme = `<?php bloginfo('name'); while (have_posts()) { the_post(); the_title(); }
`;
const apache = `#!/bin/sh
set -e
rm -f /var/run/apache2/apache2.pid
. /etc/apache2/envvars
mkdir -p "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR" "$APACHE_LOG_DIR"
exec apache2 -DFOREGROUND "$@"
`;

/** What \`django-admin startproject\` and a tutorial's first model come to. */
const manage = `#!/usr/bin/env python3
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_mine.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
`;
const settings = `import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
  "django.contrib.sessions", "django.contrib.messages"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
  "django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
  "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware"]
ROOT_URLCONF = "site_of_mine.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
  "context_processors": ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages"]}}]
WSGI_APPLICATION = "site_of_mine.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/db/db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
`;
const urls = `from django.contrib import admin
from django.urls import path
urlpatterns = [path("admin/", admin.site.urls)]
`;
const wsgi = `import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_mine.settings")
application = get_wsgi_application()
`;

async function images(): Promise<string> {
  const root = await debianRoot("projects", packages);
  const mariadb = mariadbImage(root, true);
  const recipe = { root, mariadb, wordpress, wordpressConfig, theme, apache, manage, settings, urls, wsgi };
  return kept("projects", recipe, (directory) =>
    writeImages(directory, {
      mariadb,
      wordpress: {
        layers: [
          root,
          {
            "usr/local/bin/docker-entrypoint.sh": wordpress,
            "usr/local/bin/apache2-foreground": apache,
            "usr/src/wp-config.php": wordpressConfig,
            "usr/share/wordpress/wp-content/themes/plain/index.php": theme,
            "usr/share/wordpress/wp-content/themes/plain/style.css": "/* Theme Name: Plain */\n",
            "var/www/html/.wh..wh..opq": "",
            "var/log/apache2/access.log": { symlink: "/dev/stdout" },
            "var/log/apache2/error.log": { symlink: "/dev/stderr" },
          },
        ],
        config: {
          Env: [path],
          Entrypoint: ["docker-entrypoint.sh"],
          Cmd: ["apache2-foreground"],
          WorkingDir: "/var/www/html",
          Volumes: { "/var/www/html": {} },
          ExposedPorts: { "80/tcp": {} },
          StopSignal: "SIGWINCH",
        },
      },
      prometheus: {
        layers: [root, { prometheus: { directory: 0o777 } }],
        config: {
          Env: [path],
          User: "nobody",
          WorkingDir: "/prometheus",
          Entrypoint: ["/usr/bin/prometheus"],
          Cmd: ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
          Volumes: { "/prometheus": {} },
          ExposedPorts: { "9090/tcp": {} },
        },
      },
      exporter: {
        layers: [root],
        config: {
          Env: [path],
          User: "nobody",
          Entrypoint: ["/usr/bin/prometheus-node-exporter"],
          ExposedPorts: { "9100/tcp": {} },
        },
      },
      django: {
        layers: [
          root,
          {
            "app/manage.py": manage,
            "app/site_of_mine/__init__.py": "",
            "app/site_of_mine/settings.py": settings,
            "app/site_of_mine/urls.py": urls,
            "app/site_of_mine/wsgi.py": wsgi,
          },
        ],
        config: { Env: [path, "PYTHONUNBUFFERED=1"], WorkingDir: "/app", ExposedPorts: { "8000/tcp": {} } },
      },
    }),
  );
}

const scraping = `global: { scrape_interval: 5s, scrape_timeout: 5s }
scrape_configs:
  - job_name: node
    static_configs: [{ targets: ["node-exporter:9100"] }]
`;

/** The shapes of docker/awesome-compose's wordpress-mysql, prometheus-grafana and django, and of a Node.js project's. */
const compose = (from: string): string => `
x-django: &django
  image: ${from}:django
  environment: &environment
    DJANGO_SECRET_KEY: \${DJANGO_SECRET_KEY:?a secret key}
    DJANGO_SUPERUSER_PASSWORD: word
  volumes: [site:/db]
services:
  db:
    image: ${from}:mariadb
    volumes:
      - db_data:/var/lib/mysql
    restart: always
    environment:
      - MYSQL_ROOT_PASSWORD=somewordpress
      - MYSQL_DATABASE=wordpress
      - MYSQL_USER=wordpress
      - MYSQL_PASSWORD=wordpress
    expose:
      - 3306
      - 33060
  wordpress:
    image: ${from}:wordpress
    ports:
      - 80:80
    restart: always
    environment:
      - WORDPRESS_DB_HOST=db
      - WORDPRESS_DB_USER=wordpress
      - WORDPRESS_DB_PASSWORD=wordpress
      - WORDPRESS_DB_NAME=wordpress
  prometheus:
    image: ${from}:prometheus
    container_name: prometheus
    command:
      - '--config.file=/etc/prometheus/prometheus.yml'
      - '--storage.tsdb.path=/prometheus'
      - '--storage.tsdb.retention.time=1h'
    ports:
      - 9090:9090
    restart: unless-stopped
    volumes:
      - ./prometheus:/etc/prometheus:ro
      - prom_data:/prometheus
  node-exporter:
    image: ${from}:exporter
    restart: unless-stopped
    expose: [9100]
  migrate:
    <<: *django
    command: sh -c "python3 manage.py migrate --noinput && python3 manage.py createsuperuser --noinput --username me --email me@example.com"
  site:
    <<: *django
    command: gunicorn --bind 0.0.0.0:8000 --workers 2 --timeout 300 site_of_mine.wsgi
    ports: ["8000:8000"]
    depends_on:
      migrate:
        condition: service_completed_successfully
  flows:
    ports: ["1880:1880"]
    volumes: [flows:/data]
    mem_limit: 512m
    x-caisson: { node: ./flows/server.mjs, egress: none }
volumes:
  db_data:
  prom_data:
  site:
  flows:
`;

before(async () => {
  cpSync(fromNpm("node-red@4.1.15"), join(place, "flows/node_modules"), {
    recursive: true,
    verbatimSymlinks: true,
  });
  writeFileSync(
    join(place, "flows/server.mjs"),
    'process.argv.push("--userDir", "/data", "--port", "1880");\nawait import("node-red/red.js");\n',
  );
  mkdirSync(join(place, "prometheus"));
  writeFileSync(join(place, "prometheus/prometheus.yml"), scraping);
  writeSpec(place, "projects", compose(await images()), "  variables: { DJANGO_SECRET_KEY: not a secret }\n");
  machine = await startServices(place, 4096);
});
after(async () => {
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

const at = (service: string, where: string): string => `http://127.0.0.1:${machine.portOf(service)}${where}`;

test("WordPress finds its data base by name, is installed by a form, and serves a page", async () => {
  const form = new URLSearchParams({
    weblog_title: "Log of a caisson",
    user_name: "me",
    admin_password: "word",
    admin_password2: "word",
    pw_weak: "on",
    admin_email: "me@example.com",
  });
  const install = (): Promise<Response> =>
    fetch(at("wordpress", "/wp-admin/install.php?step=2"), { method: "POST", body: form });
  await until(install, (text) => /Success!|already installed/i.test(text));
  match(
    await until(
      () => fetch(at("wordpress", "/")),
      (_, { status }) => status === 200,
    ),
    /Log of a caisson/,
  );
  await machine.writes("wordpress", /POST \/wp-admin\/install.php/);
});

test("Prometheus reads its configuration, finds the exporter by name, and answers what it scraped", async () => {
  const text = await until(
    () => fetch(at("prometheus", "/api/v1/query?query=up")),
    (found) => found.includes('"1"'),
  );
  const { data } = JSON.parse(text) as { data: { result: { metric: object; value: [number, string] }[] } };
  deepEqual(
    data.result.map(({ metric, value }) => [metric, value[1]]),
    [[{ __name__: "up", instance: "node-exporter:9100", job: "node" }, "1"]],
  );
});

test("Django starts after its migrations, and lets in the user that they made", async () => {
  const login = at("site", "/admin/login/");
  const page = await fetch(login);
  const [cookie] = page.headers.getSetCookie().map((line) => line.split(";")[0]!);
  const token = /name="csrfmiddlewaretoken" value="([^"]+)"/.exec(await page.text())![1]!;
  const body = new URLSearchParams({
    csrfmiddlewaretoken: token,
    username: "me",
    password: "word",
    next: "/admin/",
  });
  const answer = await fetch(login, {
    method: "POST",
    body,
    headers: { cookie: cookie!, referer: login },
    redirect: "manual",
  });
  deepEqual([answer.status, answer.headers.get("location")], [302, "/admin/"]);
  ok(machine.lines("migrate").some((line) => /Applying auth.0001_initial... OK/.test(line)));
});

test("Node-RED takes a flow and runs it", async () => {
  await until(
    () => fetch(at("flows", "/settings")),
    (text) => text.includes('"version"'),
  );
  const flow = [
    { id: "t", type: "tab", label: "t" },
    { id: "in", type: "http in", z: "t", url: "/hello", method: "get", wires: [["f"]] },
    {
      id: "f",
      type: "function",
      z: "t",
      func: 'msg.payload = "seven " + (3 + 4); return msg;',
      wires: [["out"]],
    },
    { id: "out", type: "http response", z: "t", wires: [] },
  ];
  const taken = await fetch(at("flows", "/flows"), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(flow),
  });
  equal(taken.status, 204);
  equal(
    await until(
      () => fetch(at("flows", "/hello")),
      (_, { status }) => status === 200,
    ),
    "seven 7",
  );
});
