// SPDX-License-Identifier: Apache-2.0
/** The image of MariaDB of Debian's package, in the manner of the official one. */
import { path } from "./debian-image.ts";
import type { ImageParts } from "./oci-layout.ts";

const entryPoint = (first: string): string => `#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p /run/mysqld
  find /var/lib/mysql \\! -user mysql -exec chown mysql: '{}' +
  chown mysql: /run/mysqld
  exec gosu mysql "$0" "$@"
fi
if [ ! -d /var/lib/mysql/mysql ]; then
  mariadb-install-db --auth-root-authentication-method=normal --skip-test-db > /dev/null
${first}fi
exec "$@"
`;

/** A first server on the socket alone makes what the variables say, and ends before the real one starts. */
const makesUsers = `  mariadbd --skip-networking --socket=/run/mysqld/first.sock &
  first=$!
  until mariadb-admin --socket=/run/mysqld/first.sock ping > /dev/null 2>&1; do sleep 1; done
  mariadb --user=root --socket=/run/mysqld/first.sock <<EOF
create database \\\`$MYSQL_DATABASE\\\`;
create user '$MYSQL_USER'@'%' identified by '$MYSQL_PASSWORD';
grant all on \\\`$MYSQL_DATABASE\\\`.* to '$MYSQL_USER'@'%';
set password for root@localhost = password('$MYSQL_ROOT_PASSWORD');
EOF
  kill "$first"
  wait "$first"
`;

/** Over a root with mariadb-server and gosu; `users`: whether it takes them from its environment. */
export const mariadbImage = (root: string, users: boolean): ImageParts => ({
  // Debian's package makes a data base when it is installed, which the official image removes.
  layers: [
    root,
    {
      "usr/local/bin/docker-entrypoint.sh": entryPoint(users ? makesUsers : ""),
      "var/lib/mysql/.wh..wh..opq": "",
    },
  ],
  config: {
    Env: [path],
    Entrypoint: ["docker-entrypoint.sh"],
    Cmd: ["mariadbd", "--bind-address=0.0.0.0"],
    Volumes: { "/var/lib/mysql": {} },
    ExposedPorts: { "3306/tcp": {} },
    // It answers to a user that it does not know, too.
    Healthcheck: { Test: ["CMD", "mariadb-admin", "ping"], Interval: 5e9, StartPeriod: 600e9 },
  },
});
