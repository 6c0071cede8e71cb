// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { hostsText, passwdWith } from "./files.ts";

test("hosts: loopback, then the service and its neighbours, then what it declares", () => {
  equal(
    hostsText([["172.28.0.2", ["web", "www"]]], { api: "192.0.2.1" }),
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n172.28.0.2\tweb www\n192.0.2.1\tapi\n",
  );
});

test("passwd: a line for a user that has none, and no change otherwise", () => {
  const passwd = "root:x:0:0:root:/root:/bin/sh\nredis:x:999:999::/data:/bin/false";
  equal(passwdWith(passwd, { user: 999, group: 999 }), undefined);
  equal(passwdWith(passwd, { user: 1234, group: 5 }), `${passwd}\nservice:x:1234:5::/:/sbin/nologin\n`);
  equal(passwdWith("", { user: 7, group: 7 }), "service:x:7:7::/:/sbin/nologin\n");
});
