// SPDX-License-Identifier: Apache-2.0
/**
 * Projects that take long to make and to start: what `rails new` and a scaffold give, Gitea over s6 with OpenSSH's server, and
 * Keycloak; each used as its users do, by a browser's form, by git over SSH, and by OpenID Connect. Needs Go and Maven.
 */
import { deepEqual, equal } from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { largeImages } from "../support/large-projects.ts";
import { type ServiceMachine, startServices, until, writeSpec } from "../support/services.ts";

const repository = new URL("../../", import.meta.url).pathname;
const place = mkdtempSync(join(tmpdir(), "caisson-large-"));
let machine: ServiceMachine;

const compose = (images: string): string => `
services:
  rails:
    image: ${images}:rails
    ports: ["3000:3000"]
    environment:
      SECRET_KEY_BASE: not a secret
      RAILS_LOG_TO_STDOUT: "1"
      DATABASE_URL: sqlite3:/rails/storage/production.sqlite3
    volumes: [rails:/rails/storage]
  gitea:
    image: ${images}:gitea
    ports: ["3001:3000", "2222:22"]
    cap_add: [SYS_CHROOT]
    restart: always
    volumes: [gitea:/data]
  keycloak:
    image: ${images}:keycloak
    command: start --optimized
    ports: ["8080:8080"]
    mem_limit: 1500m
    environment:
      KC_BOOTSTRAP_ADMIN_USERNAME: admin
      KC_BOOTSTRAP_ADMIN_PASSWORD: word
      KC_HTTP_ENABLED: "true"
      KC_HOSTNAME_STRICT: "false"
      # Two fifths of its start under emulation are the optimising compiler.
      JAVA_OPTS_APPEND: -XX:TieredStopAtLevel=1
    configs:
      - { source: patience, target: /opt/keycloak/conf/quarkus.properties }
    volumes: [keycloak:/opt/keycloak/data]
configs:
  # Under emulation, the first connection takes longer than the five seconds that Quarkus waits for one.
  patience:
    content: |
      quarkus.datasource.jdbc.acquisition-timeout=PT10M
      quarkus.transaction-manager.default-transaction-timeout=PT30M
volumes:
  rails:
  gitea:
  keycloak:
`;

before(async () => {
  writeSpec(place, "large", compose(await largeImages()));
  machine = await startServices(place, 4096);
});
after(async () => {
  await machine?.stop();
  rmSync(place, { recursive: true, force: true });
});

const at = (service: string, where: string): string => `http://127.0.0.1:${machine.portOf(service)}${where}`;
const ok = (_: string, { status }: Response): boolean => status === 200;

test("Rails makes its data base, and a scaffold's form keeps a post", async () => {
  await until(() => fetch(at("rails", "/posts")), ok);
  const form = await fetch(at("rails", "/posts/new"));
  const cookie = form.headers.getSetCookie()[0]!.split(";")[0]!;
  const token = /name="authenticity_token" value="([^"]+)"/.exec(await form.text())![1]!;
  const body = new URLSearchParams({
    authenticity_token: token,
    "post[title]": "Seven",
    "post[body]": "3 + 4",
  });
  const made = await fetch(at("rails", "/posts"), {
    method: "POST",
    body,
    headers: { cookie },
    redirect: "manual",
  });
  equal(made.status, 302);
  const posts = (await (await fetch(at("rails", "/posts.json"))).json()) as { title: string; body: string }[];
  deepEqual(
    posts.map(({ title, body }) => [title, body]),
    [["Seven", "3 + 4"]],
  );
  await machine.writes("rails", /Started POST "\/posts"/);
});

test("Gitea takes a push by SSH, whose server shuts itself into a root of its own, and shows it", async () => {
  await until(() => fetch(at("gitea", "/api/healthz")), ok);
  const user =
    "gosu git gitea admin user create --admin --username me --password sevensevenseven --email me@example.com";
  execFileSync(join(repository, "caisson"), [
    "exec",
    place,
    "gitea",
    ...user.split(" "),
    "--must-change-password=false",
  ]);
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(place, "key")]);
  const ask = (where: string, body: object): Promise<Response> =>
    fetch(at("gitea", `/api/v1${where}`), {
      method: "POST",
      body: JSON.stringify(body),
      headers: { authorization: `Basic ${btoa("me:sevensevenseven")}`, "content-type": "application/json" },
    });
  equal(
    (await ask("/user/keys", { title: "key", key: readFileSync(join(place, "key.pub"), "utf8") })).status,
    201,
  );
  equal((await ask("/user/repos", { name: "notes" })).status, 201);
  const { host } = machine.ports.find(({ service, published }) => service === "gitea" && published === 2222)!;
  const work = join(place, "work");
  execFileSync("git", ["init", "-q", "-b", "main", work]);
  writeFileSync(join(work, "README.md"), "seven\n");
  const git = (...words: string[]): Promise<unknown> =>
    promisify(execFile)(
      "git",
      ["-C", work, "-c", "user.name=me", "-c", "user.email=me@example.com", ...words],
      {
        env: {
          ...process.env,
          GIT_SSH_COMMAND: `ssh -F /dev/null -i ${join(place, "key")} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null`,
        },
      },
    );
  await git("add", ".");
  await git("commit", "-q", "-m", "seven");
  await git("push", "-q", `ssh://git@127.0.0.1:${host}/me/notes.git`, "main");
  // What was pushed is entered behind the answer to git.
  equal(await until(() => fetch(at("gitea", "/me/notes/raw/branch/main/README.md")), ok), "seven\n");
});

test("Keycloak gives its administrator a token, by which it shows its realm", async () => {
  const body = new URLSearchParams({
    client_id: "admin-cli",
    grant_type: "password",
    username: "admin",
    password: "word",
  });
  const asked = at("keycloak", "/realms/master/protocol/openid-connect/token");
  const { access_token: token } = JSON.parse(
    await until(() => fetch(asked, { method: "POST", body }), ok),
  ) as {
    access_token: string;
  };
  const realm = await fetch(at("keycloak", "/admin/realms/master"), {
    headers: { authorization: `Bearer ${token}` },
  });
  equal(((await realm.json()) as { realm: string }).realm, "master");
});
