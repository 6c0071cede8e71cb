// SPDX-License-Identifier: Apache-2.0
import { equal } from "node:assert/strict";
import { test } from "node:test";
import { render } from "./check.ts";

const web = { name: "web", image: "docker.io/library/nginx:1.27", isolation: "contained" } as const;

test("what stands in the way is counted; each finding has its sign, its line and what would change it", () => {
  const text = render({
    subject: "compose.yaml",
    services: [
      {
        ...web,
        findings: [{ kind: "cost", text: "may connect to anywhere", line: 3, change: "egress: none" }],
      },
      { ...web, name: "db", findings: [{ kind: "fault", text: "there is no such file" }] },
    ],
    findings: [{ kind: "note", text: "volumes are in memory" }],
  });
  equal(
    text,
    `compose.yaml: 2 services, 1 cannot run

web  docker.io/library/nginx:1.27  contained
  − may connect to anywhere (line 3)
    → egress: none

db  docker.io/library/nginx:1.27  contained
  ✘ there is no such file

All together
  · volumes are in memory

✘ cannot run   − costs isolation   · worth knowing   ? not looked at
`,
  );
});

test("an image that could not be looked at is not one with nothing in the way", () => {
  const text = render({
    subject: "x",
    services: [{ ...web, findings: [{ kind: "unknown", text: "the image was not looked at: no answer" }] }],
    findings: [],
  });
  equal(text.split("\n")[0], "x: one service, 1 could not be looked at, so that nobody can tell");
});

test("one service without a finding is one line, and words of an image obey nobody", () => {
  const text = render({ subject: "\u001b[2Jx", services: [{ ...web, findings: [] }], findings: [] });
  equal(text.split("\n")[0], "x: one service, nothing in the way");
});
