// SPDX-License-Identifier: Apache-2.0
/**
 * Rails, Gitea and Keycloak, from Debian, the Go module proxy and Maven's repository, laid out like the official images: what
 * `rails new` writes, s6 over Gitea and sshd, a Keycloak that was built before it starts.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { debianRoot, path } from "./debian-image.ts";
import { kept, type Layer, writeImages } from "./oci-layout.ts";

const packages = "rails puma ruby-sqlite3 openssh-server s6 git gosu openjdk-17-jre-headless".split(" ");
const gitea = "code.gitea.io/gitea@v1.26.0";
const keycloak = "org.keycloak:keycloak-quarkus-dist:26.0.8:tar.gz";

/** What `script` leaves at `place`, run in a copy of the root in which `put` has prepared something, as a layer. */
async function madeInside(
  root: string,
  script: string,
  place: string,
  put?: (root: string) => void,
): Promise<string> {
  const directory = await kept("inside", { root, script, place }, async (work) => {
    const copy = join(work, "root");
    mkdirSync(copy);
    execFileSync("tar", ["-xf", root, "-C", copy]);
    put?.(copy);
    const inside = ["--mount", "--pid", "--fork", `--mount-proc=${join(copy, "proc")}`, "chroot", copy];
    execFileSync("unshare", [...inside, "sh", "-ec", script], { stdio: ["ignore", "ignore", "inherit"] });
    execFileSync("tar", ["-C", copy, "--numeric-owner", "--mtime=@0", "-cf", join(work, "layer.tar"), place]);
    rmSync(copy, { recursive: true });
  });
  return join(directory, "layer.tar");
}

/** The entry point is the one that Rails writes beside its Dockerfile. */
const newRails = `export HOME=/root LANG=C.UTF-8 BUNDLE_WITHOUT=development:test RAILS_ENV=production
cd /tmp
rails new blog --database=sqlite3 --skip-bundle --skip-git --skip-test --skip-system-test --skip-javascript \
  --skip-webpack-install --skip-spring --skip-bootsnap --skip-listen --skip-sprockets --skip-action-cable \
  --skip-action-mailbox --skip-action-mailer --skip-action-text --skip-active-storage
mv blog /rails
cd /rails
bundle install --local
bin/rails generate scaffold post title:string body:text
cat > bin/docker-entrypoint <<'EOF'
#!/bin/bash -e
if [ "\${*}" == "./bin/rails server" ]; then ./bin/rails db:prepare; fi
exec "\${@}"
EOF
chmod 755 bin/docker-entrypoint
mkdir -p storage tmp/pids
chown -R 1000:1000 db log storage tmp
`;

const newKeycloak = `tar -xzf /tmp/keycloak.tar.gz -C /opt
mv /opt/keycloak-* /opt/keycloak
/opt/keycloak/bin/kc.sh build --db=dev-file --health-enabled=true
chown -R 1000:0 /opt/keycloak
chmod -R g+rwX /opt/keycloak
`;

/** Gitea's program and the files that it serves, without what its front end's build would make. */
async function giteaFiles(): Promise<Layer> {
  const directory = await kept("gitea", { gitea }, async (work) => {
    const env = { ...process.env, GONOSUMDB: "*", GOFLAGS: "-mod=mod -buildvcs=false" };
    const found = execFileSync("go", ["mod", "download", "-json", gitea], {
      encoding: "utf8",
      env,
      cwd: work,
    });
    const source = join(work, "source");
    cpSync((JSON.parse(found) as { Dir: string }).Dir, source, { recursive: true });
    execFileSync("chmod", ["-R", "u+w", source]);
    const build = ["build", "-tags", "sqlite sqlite_unlock_notify", "-trimpath", "-o", join(work, "layer/usr/local/bin/gitea")]; // biome-ignore format: one line
    execFileSync("go", [...build, "."], { cwd: source, env, stdio: ["ignore", "ignore", "inherit"] });
    for (const part of ["templates", "options", "public"])
      cpSync(join(source, part), join(work, "layer/app/gitea", part), { recursive: true });
    execFileSync("tar", ["-C", join(work, "layer"), "--owner=0", "--group=0", "--mtime=@0", "-cf", join(work, "layer.tar"), "."]); // biome-ignore format: one line
    for (const part of ["source", "layer"]) rmSync(join(work, part), { recursive: true });
  });
  return join(directory, "layer.tar");
}

const giteaScripts: Layer = {
  "usr/bin/entrypoint": `#!/bin/sh
useradd --uid "\${USER_UID:-1000}" --home-dir /data/git --shell /bin/bash --no-create-home --password '*' git
mkdir -p /data/gitea/conf /data/gitea/log /data/git/.ssh /data/ssh
if [ $# -gt 0 ]; then exec "$@"; fi
exec s6-svscan /etc/s6
`,
  "etc/s6/openssh/run": `#!/bin/sh
[ -f /data/ssh/ssh_host_ed25519_key ] || ssh-keygen -t ed25519 -f /data/ssh/ssh_host_ed25519_key -N "" > /dev/null
mkdir -p /run/sshd
chmod 755 /run/sshd
exec /usr/sbin/sshd -D -e 2>&1
`,
  "etc/s6/gitea/run": `#!/bin/sh
cd /app/gitea
if [ ! -f /data/gitea/conf/app.ini ]; then
  cat > /data/gitea/conf/app.ini <<EOF
APP_NAME = Gitea
RUN_MODE = prod
RUN_USER = git
WORK_PATH = /data/gitea
[repository]
ROOT = /data/git/repositories
[server]
APP_DATA_PATH = /data/gitea
STATIC_ROOT_PATH = /app/gitea
HTTP_PORT = 3000
DISABLE_SSH = false
SSH_PORT = 22
[database]
DB_TYPE = sqlite3
PATH = /data/gitea/gitea.db
[security]
INSTALL_LOCK = true
EOF
fi
chown git:git /data/git /data/git/.ssh
chown -R git:git /data/gitea
chmod 0755 /data/gitea /data/git
chmod 0700 /data/git/.ssh
export HOME=/data/git USER=git GITEA_CUSTOM=/data/gitea
exec gosu git /usr/local/bin/gitea web
`,
  "etc/ssh/sshd_config": `Port 22
HostKey /data/ssh/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
AllowUsers git
AcceptEnv GIT_PROTOCOL
`,
};

/** A layout with the tags rails, gitea and keycloak. Needs go and mvn. */
export async function largeImages(): Promise<string> {
  const root = await debianRoot("large", packages);
  const rails = await madeInside(root, newRails, "rails");
  const identity = await madeInside(root, newKeycloak, "opt/keycloak", (copy) => {
    const to = [
      `-DoutputDirectory=${join(copy, "tmp")}`,
      "-Dmdep.stripVersion=true",
      "-Dmdep.stripClassifier=true",
    ];
    execFileSync("mvn", ["-q", "-B", "dependency:copy", `-Dartifact=${keycloak}`, ...to], {
      stdio: "inherit",
    });
    execFileSync("mv", [join(copy, "tmp/keycloak-quarkus-dist.tar.gz"), join(copy, "tmp/keycloak.tar.gz")]);
  });
  const forge = await giteaFiles();
  return kept("large", { root, rails, identity, forge, giteaScripts }, (directory) =>
    writeImages(directory, {
      rails: {
        layers: [root, rails],
        config: {
          Env: [path, "RAILS_ENV=production", "BUNDLE_WITHOUT=development:test", "LANG=C.UTF-8"],
          User: "1000:1000",
          WorkingDir: "/rails",
          Entrypoint: ["/rails/bin/docker-entrypoint"],
          Cmd: ["./bin/rails", "server"],
          ExposedPorts: { "3000/tcp": {} },
        },
      },
      gitea: {
        layers: [root, forge, giteaScripts],
        config: {
          Env: [path, "USER=git", "GITEA_CUSTOM=/data/gitea"],
          Entrypoint: ["/usr/bin/entrypoint"],
          Volumes: { "/data": {} },
          ExposedPorts: { "22/tcp": {}, "3000/tcp": {} },
        },
      },
      keycloak: {
        layers: [root, identity],
        config: {
          Env: [path, "LANG=en_US.UTF-8"],
          User: "1000",
          Entrypoint: ["/opt/keycloak/bin/kc.sh"],
          ExposedPorts: { "8080/tcp": {}, "8443/tcp": {}, "9000/tcp": {} },
        },
      },
    }),
  );
}
