// SPDX-License-Identifier: Apache-2.0
import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import type { App, Spec } from "../inputs/spec.ts";
import type { OciConfig } from "../oci/documents.ts";
import type { OciImage } from "../oci/oci.ts";
import { describeApplication } from "./application.ts";
import { type DirectoryNode, directory, put } from "./tree.ts";

const executable = { kind: "file", mode: 0o755, content: new Uint8Array() } as const;
const text = (content: string) => ({ kind: "file", mode: 0o644, content: Buffer.from(content) }) as const;

/** A root with programs, links to them, and accounts. */
function tree(): DirectoryNode {
  const root = directory();
  put(root, "/usr/bin/run", executable);
  put(root, "/usr/bin/data", text(""));
  put(root, "/bin", { kind: "symlink", target: "usr/bin" });
  put(root, "/usr/local/bin/relative", { kind: "symlink", target: "../../bin/run" });
  put(root, "/usr/local/bin/loop", { kind: "symlink", target: "loop" });
  put(root, "/usr/local/bin/outside", { kind: "symlink", target: "../../../../../../usr/bin/run" });
  put(root, "/srv/here", executable);
  put(root, "/etc/passwd", text("root:x:0:0::/:\nweb:x:33:34::/:\nbig:x:70000:1::/:\n"));
  put(root, "/etc/group", text("staff:x:50:\n"));
  return root;
}

function config(change: Partial<OciConfig> = {}, app: Partial<App> = {}) {
  const image: OciImage = {
    digest: `sha256:${"0a".repeat(32)}`,
    tree: tree(),
    config: {
      entrypoint: ["run"],
      command: [],
      environment: {},
      workingDirectory: "",
      user: "1",
      exposedPorts: [],
      volumes: [],
      labels: {},
      ...change,
    },
    changes: [],
  };
  const limits = { port: 80, environment: {}, memory: 2 ** 28, pids: 8 };
  const spec = { name: "test", app: { ...limits, ...app } } as Spec;
  return describeApplication(spec, undefined, new Map([["test", image]])).description.services.test!;
}

const programs: [what: string, change: Partial<OciConfig>, found: string][] = [
  ["an absolute path", { entrypoint: ["/usr/bin/run"] }, "/usr/bin/run"],
  ["a name on the usual path", { entrypoint: ["run"] }, "/usr/bin/run"],
  ["a name on the image's PATH", { entrypoint: ["here"], environment: { PATH: "/none:/srv" } }, "/srv/here"],
  [
    "a path relative to the working directory",
    { entrypoint: ["./here"], workingDirectory: "/srv" },
    "/srv/here",
  ],
  ["through a linked directory", { entrypoint: ["/bin/run"] }, "/bin/run"],
  ["through a relative link", { entrypoint: ["relative"] }, "/usr/local/bin/relative"],
  ["a link above the root stays in it", { entrypoint: ["outside"] }, "/usr/local/bin/outside"],
];
for (const [what, change, found] of programs) {
  test(`the program: ${what}`, () => equal(config(change).arguments[0], found));
}

for (const entrypoint of [["nowhere"], ["/usr/bin/data"], ["/usr/bin"], ["loop"], []]) {
  test(`refused: the program ${JSON.stringify(entrypoint)}`, () => {
    throws(() => config({ entrypoint }), { code: "app/program" });
  });
}

const users: [user: string, expected: [number, number]][] = [
  ["", [65_532, 65_532]],
  ["root", [65_532, 65_532]],
  ["0", [65_532, 65_532]],
  ["0:0", [65_532, 65_532]],
  ["7", [7, 7]],
  ["7:8", [7, 8]],
  ["web", [33, 34]],
  ["web:staff", [33, 50]],
  ["7:staff", [7, 50]],
];
for (const [user, expected] of users) {
  test(`the user '${user}' is ${expected.join(":")}`, () => {
    const found = config({ user });
    deepEqual([found.user, found.group], expected);
  });
}

for (const user of ["nobody-knows", "7:nobody-knows", "big", "7:0", "65534", "7:-1"]) {
  test(`refused: the user '${user}'`, () => throws(() => config({ user }), { code: "app/user" }));
}

test("the spec's arguments replace the image's command, its environment adds to the image's", () => {
  const change = { command: ["a"], environment: { A: "1", B: "1" } };
  const found = config(change, { arguments: ["b", "c"], environment: { B: "2" } });
  deepEqual(found.arguments, ["/usr/bin/run", "b", "c"]);
  deepEqual(found.environment, { A: "1", B: "2" });
  deepEqual(config(change).arguments, ["/usr/bin/run", "a"]);
});
