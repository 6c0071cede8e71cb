// SPDX-License-Identifier: Apache-2.0
import { deepEqual, doesNotMatch, equal, match, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { audit } from "./audit.ts";
import { parseBaseline } from "./baseline.ts";
import { catalogue } from "./catalogue/index.ts";
import { readReport } from "./collect.ts";
import { MissingPart } from "./control.ts";
import type { ImageFacts } from "./facts.ts";
import { graph } from "./graph.ts";
import { graphSvg } from "./graph-svg.ts";
import { parseLiveReport } from "./live.ts";
import { colours, page } from "./page.ts";
import { type Provenance, verdictLine } from "./provenance.ts";
import { sarif, subjectUri } from "./sarif.ts";
import { explainControl, table } from "./table.ts";
import { goodImage, goodLive, goodRemote } from "./testing/facts.ts";

const now = new Date("2026-11-23T12:00:00Z");
const broken = () => {
  const facts = goodImage();
  facts.guest.time.secure_time = false;
  return facts;
};
const accept = (more: object = {}) =>
  parseBaseline({
    version: "caisson/audit-baseline/v1",
    accepted: [{ control: "T10", reason: "a test bench without a network", expires: "2026-12-31", ...more }],
  });
const status = (result: ReturnType<typeof audit>, id: string) =>
  result.rows.find(({ control }) => control.id === id)?.results[0]?.status;

test("image, guest and evidence together: nothing fails", () => {
  const result = audit({ static: goodImage(), live: goodLive(), remote: goodRemote() }, [], now);
  deepEqual(result.failedRequired, []);
  deepEqual(result.kinds, ["static", "live", "remote"]);
  ok(result.scores.every(({ passed, failed }) => passed > 0 && failed === 0));
});

test("a failure is named, and counts for its decision", () => {
  const result = audit({ static: broken() }, [], now);
  deepEqual(result.failedRequired, ["T10"]);
  equal(result.scores.find(({ decision }) => decision === "D5")?.failed, 1);
});

test("the baseline accepts it, for a time", () => {
  const result = audit({ static: broken() }, accept(), now);
  deepEqual(result.failedRequired, []);
  equal(status(result, "T10"), "accepted");
  equal(status(audit({ static: broken() }, accept({ kind: "live" }), now), "T10"), "fail");
  equal(status(audit({ static: broken() }, accept({ expires: "2026-11-22" }), now), "T10"), "fail");
  equal(status(audit({ static: broken() }, accept({ expires: "2026-11-23" }), now), "T10"), "accepted");
});

test("an acceptance that excuses nothing is remarked", () => {
  equal(audit({ static: goodImage() }, accept(), now).remarks.length, 1);
});

const badBaselines: Record<string, object> = {
  "an unknown control": { control: "T99" },
  "no reason": { reason: "" },
  "no expiry": { expires: undefined },
  "no date": { expires: "next year" },
  "an unknown key": { forever: true },
};
for (const [name, change] of Object.entries(badBaselines)) {
  test(`a baseline is refused: ${name}`, () => {
    throws(() => accept(change), {
      code: name === "an unknown control" ? "baseline/unknown-control" : "baseline/schema",
    });
  });
}

test("development deviations are excused in development only", () => {
  const facts = goodImage();
  (facts.kernel.config as Map<string, string>).set("TCG_TPM", "y");
  equal(status(audit({ static: facts }, [], now), "K37"), "fail");
  equal(
    status(
      audit(
        { static: { ...facts, flavour: "development", guest: { ...facts.guest, flavour: "development" } } },
        [],
        now,
      ),
      "K37",
    ),
    "deviation",
  );
});

test("a production image is not excused by a development guest beside it", () => {
  const image = goodImage();
  (image.kernel.config as Map<string, string>).set("TCG_TPM", "y");
  const live = { ...goodLive(), flavour: "development" as const };
  deepEqual(audit({ static: image, live }, [], now).failedRequired, ["K37"]);
});

test("an excuse holds for its kind only: development firmware is still the manifest's", () => {
  const image = goodImage();
  image.flavour = image.guest.flavour = "development";
  image.build.changed = ["firmware/OVMF_CODE.fd"];
  ok(audit({ static: image }, [], now).failedRequired.includes("F12"));
});

test("an excuse of the running guest excuses nothing in the image", () => {
  const image = goodImage();
  image.flavour = image.guest.flavour = "development";
  // D05 may fail in a development guest, whose devices do not offer it, but not in what was built.
  (image.kernel.config as Map<string, string>).delete("SWIOTLB");
  ok(audit({ static: image }, [], now).failedRequired.includes("D05"));
});

test("a guest that does not run the image is refused beside it", () => {
  const live = goodLive();
  live.commandLine = live.commandLine.replace(/sha256 [0-9a-f]{64}/, `sha256 ${"0".repeat(64)}`);
  throws(() => audit({ static: goodImage(), live }, [], now), { code: "audit/subject" });
});

test("a rejected report fails what it did not check", () => {
  const facts = goodRemote();
  facts.report.checks = facts.report.checks.filter(({ id }) => id !== "td/debug");
  deepEqual(audit({ remote: facts }, [], now).failedRequired, ["Q01"]);
});

const provenance = (name = "out/a b"): Provenance => ({
  at: "2026-06-01T00:00:00.000Z",
  version: "1.2.3",
  command: "caisson audit 'out/a b'",
  subjects: { static: { name, hashes: [["manifest", "ab".repeat(32)]] } },
});

test("the first line is the verdict, and after it stands what was audited, when, by what, and how", () => {
  const text = table(audit({ static: goodImage() }, [], now), provenance());
  match(text, /^HOLDS {3}every required control holds/);
  for (const line of [
    /at +2026-06-01/,
    /by +caisson 1\.2\.3/,
    /command +caisson audit 'out/,
    /manifest +(?:ab){32}/,
  ]) {
    match(text, line);
  }
  match(
    table(audit({ static: broken() }, [], now), provenance()),
    /^FAILS {3}1 required control does not hold: T10/,
  );
  match(
    page(audit({ static: broken() }, [], now), provenance()),
    /<body[^>]*>\n<p class="verdict fail">FAILS/,
  );
});

test("a recommended control that does not hold is said, and does not look like the verdict", () => {
  const facts = goodImage();
  const result = audit({ static: facts }, [], now);
  const { control } = result.rows.find((row) => row.control.severity === "recommended")!;
  const failed = result.rows.map((row) =>
    row.control === control
      ? { ...row, results: [{ kind: "static", status: "fail", details: ["x"] } as const] }
      : row,
  );
  const advised = { ...result, rows: failed };
  match(verdictLine(advised), new RegExp(`^HOLDS .*only recommended, 1 does not: ${control.id}$`));
  match(page(advised, provenance()), new RegExp(`<tr id="${control.id}">.*<span class="advice">fail</span>`));
});

/** Relative luminance and contrast, WCAG 2.2. */
function contrast(a: string, b: string): number {
  const luminance = (colour: string) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light! + 0.05) / (dark! + 0.05);
}

test("every colour of the page can be read on its background, in light and in dark", () => {
  for (const { page: background, ...others } of Object.values(colours)) {
    for (const [name, colour] of Object.entries(others)) {
      ok(contrast(colour, background) >= 4.5, `${name} ${colour} on ${background}`);
    }
  }
});

test("SARIF: one result a finding, rules for all, suppressions for what is accepted", () => {
  const result = audit({ static: broken() }, accept(), now);
  const { version, runs } = sarif(result, provenance("out/a b")) as {
    version: string;
    runs: {
      tool: { driver: { version: string; rules: { id: string }[] } };
      properties: { verdict: string };
      invocations: { commandLine: string; startTimeUtc: string; exitCode: number }[];
      artifacts: { properties: object }[];
      results: { ruleId: string; ruleIndex: number; suppressions?: object[]; locations: unknown }[];
    }[];
  };
  equal(version, "2.1.0");
  const [run] = runs;
  equal(run!.tool.driver.rules.length, catalogue.length);
  equal(run!.results.length, 1);
  equal(run!.tool.driver.rules[run!.results[0]!.ruleIndex]!.id, "T10");
  equal(run!.results[0]!.suppressions?.length, 1);
  match(JSON.stringify(run!.results[0]!.locations), /out\/a%20b/);
  equal(run!.tool.driver.version, "1.2.3");
  match(run!.properties.verdict, /^HOLDS/);
  deepEqual(run!.invocations[0], {
    commandLine: "caisson audit 'out/a b'",
    startTimeUtc: "2026-06-01T00:00:00.000Z",
    executionSuccessful: true,
    exitCode: 0,
  });
  deepEqual(run!.artifacts[0]!.properties, { manifest: "ab".repeat(32) });
});

test("SARIF: a path is a reference whose reserved characters are its own", () => {
  const uris: [subject: string, uri: string][] = [
    ["audit/a b#ü", "audit/a%20b%23%C3%BC"],
    ["what?/100%", "what%3F/100%25"],
    ["a:b/c", "./a:b/c"],
    ["d/a:b", "d/a:b"],
    ["/tmp/a b#c?d", "file:///tmp/a%20b%23c%3Fd"],
    ["http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"],
  ];
  for (const [subject, uri] of uris) {
    equal(subjectUri(subject), uri);
    equal(
      decodeURIComponent(new URL(uri, "file:///").pathname).replace(/^\//, ""),
      subject.replace(/^(?:http:..[^/]*)?\//, ""),
    );
  }
});

test("the page escapes what it shows and refers to nothing", () => {
  const facts = goodImage();
  facts.commandLine = [...facts.commandLine, "earlycon=<script>alert('x')</script>"];
  const html = page(audit({ static: facts }, [], now), provenance(`<img src=x onerror="y">`));
  match(html, /<a href="#C15">C15<\/a>/);
  match(html, /<tr id="C15">/);
  match(html, /setuid or setgid files<\/td><td>0</);
  match(html, /&lt;script&gt;alert\(&#39;x&#39;\)/);
  doesNotMatch(html, /<script|<img|https?:\/\//);
});

test("the table shows failures with their reasons", () => {
  const text = table(audit({ static: broken() }, [], now), provenance());
  match(text, /T10 +FAIL/);
  match(text, /secure_time is on; found: it is off/);
});

test("the table sums up, and says how much there is beside the application", () => {
  const facts = goodImage();
  (facts.files as Map<string, object>).set("/app/rootfs/usr/bin/su", { kind: "file", mode: 0o4755, size: 5 });
  (facts.files as Map<string, object>).set("/usr/bin/su", { kind: "file", mode: 0o4755, size: 5 });
  const result = audit({ static: facts, live: goodLive() }, [], now);
  deepEqual(result.inventory.live, { processes: 1, listening: 0 });
  equal(result.inventory.static?.setuid, 1);
  const text = table(result, provenance());
  match(text, /setuid or setgid files +1\n/);
  const passed = result.rows.flatMap(({ results }) => results).filter((one) => one.status === "pass").length;
  match(text, new RegExp(` ${passed} +\\d+ +0 {2}together`));
});

test("an image older than its sources is told so, and what to do", () => {
  const facts = goodImage();
  facts.build.init.sources = "9".repeat(64);
  match(
    table(audit({ static: facts }, [], now), provenance()),
    /U13 +FAIL.*\n.*3434343434343434… in the image, 9999999999999999… from these sources.*Build it again \(caisson build SPEC\)/,
  );
});

test("an explanation names every expectation", () => {
  const text = explainControl(catalogue.find(({ id }) => id === "K01")!);
  for (const line of [/CONFIG_MODULES is not set/, /open \/proc\/modules/, /RTMR1/]) match(text, line);
});

test("the graph shows powers, writable places, listeners and keys", () => {
  const text = graph(goodLive());
  for (const line of [
    /node \(1\).*\/usr\/bin\/node/,
    /capabilities all/,
    /capabilities none, bounded by none/,
    /namespaces of its own: pid, mnt, ipc, uts/,
    /writable: \/tmp/,
    /\/tmp +tmpfs/,
    /0\.0\.0\.0:8080/,
    /app-key +0400/,
  ])
    match(text, line);
});

const edges = (svg: string) => svg.match(/<path d="M\d+ [\d.]+C/g)?.length ?? 0;

test("the graph as a picture: every process and thing, a line for each power over one, and nothing by address", () => {
  const live = goodLive();
  const svg = graphSvg(live);
  for (const line of [
    />node \(1\) {2}\/usr\/bin\/node</,
    />user 1000, group 1000</,
    />capabilities: none; at most none</,
    />namespaces of its own: pid, mnt, ipc, uts</,
    />tmpfs nosuid nodev noexec for 300</,
    />0\.0\.0\.0:8080</,
    />0400, user 1000</,
  ])
    match(svg, line);
  // PID 1: five mounts, two files. The application: one mount, one socket, one file.
  equal(edges(svg), 10);
  doesNotMatch(svg, /href|<script|<image/);
  // A file of nobody's here has no line.
  live.files[2]!.uid = 4711;
  equal(edges(graphSvg(live)), 9);
});

test("the picture escapes what a guest says, and ends although processes are each other's parents", () => {
  const live = goodLive();
  live.processes[0]!.parent = 300;
  live.processes[0]!.name = "<script>";
  live.mounts[1]!.target = `/"onload="x`;
  const svg = graphSvg(live);
  match(svg, /&lt;script&gt; \(1\)/);
  match(svg, />node \(300\)/);
  doesNotMatch(svg, /<script|\/"onload/);
});

test("live reports are read strictly", () => {
  deepEqual(parseLiveReport(goodLive()), goodLive());
  for (const bad of [
    null,
    {},
    { ...goodLive(), extra: 1 },
    { ...goodLive(), version: "caisson/live/v2" },
    { ...goodLive(), now: "x" },
  ]) {
    throws(() => parseLiveReport(bad), { code: "live/schema" });
  }
});

test("only a verification report is evidence", () => {
  equal(readReport(goodRemote().report).platform, "tdx");
  for (const bad of [
    null,
    {},
    { version: "caisson/report/v1" },
    { version: "caisson/report/v1", checks: [{ id: 1, outcome: "pass" }] },
  ]) {
    throws(() => readReport(bad), { code: "evidence/report" });
  }
});

test("another system's root describes no application, and is judged by what it has", () => {
  const { guest: _, ...parts } = goodImage();
  const config = new Map([...parts.kernel.config, ["USER_NS", "y"], ["BTRFS_FS", "y"]]);
  const facts: ImageFacts = {
    ...parts,
    kind: "tree",
    kernel: { ...parts.kernel, config },
    get guest(): never {
      throw new MissingPart("this system has no description");
    },
  };
  const result = audit({ static: facts }, [], now);
  deepEqual([status(result, "K33"), status(result, "K27")], ["fail", "fail"]);
});
