// SPDX-License-Identifier: Apache-2.0
/** The page's own code: files in, a report out. Runs in a browser; whatever it shows of a file it shows as text. */
import {
  type AnyEvidence,
  type Check,
  type ExpectedReportData,
  expectNonce,
  intelRoot,
  notReached,
  type PlatformSummary,
  type Report,
  verifyEvidence,
  verifyGenuine,
} from "@caisson/verify";
import { type Description, describeEvidence } from "@caisson/verify/describe";
import { releaseJudge } from "@caisson/verify/releases";
import { type Doubt, doubtOf, type Terms, termsOf } from "@caisson/verify/terms";
import { fromHex } from "@caisson/vocabulary/bytes";
import { messageOf } from "@caisson/vocabulary/failure";
import type { Example } from "./examples.ts";
import { bytesOfExample, type Dropped, readDropped } from "./files.ts";
import { type RegisterView, registersOf } from "./registers.ts";

const byId = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
type Child = Node | string | undefined;

/** An element with text and children; nothing of a file is ever parsed as HTML. */
function el(name: string, attributes: Record<string, string>, ...children: Child[]): HTMLElement {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

interface Loaded {
  name: string;
  dropped: Dropped;
}
let loaded: Loaded[] = [];
/** Set by an example under a test root: the simulated roots that it is signed under. */
let simulated: Pick<Example, "trust" | "amdRoots"> | undefined;

const kinds = {
  evidence: "evidence",
  policy: "policy",
  references: "reference values",
  collateral: "collateral",
};

async function take(files: readonly { name: string; bytes: Uint8Array }[]): Promise<void> {
  const problems: string[] = [];
  for (const { name, bytes } of files) {
    try {
      const dropped = readDropped(bytes, name);
      // One of each kind; a new one takes the old one's place.
      loaded = [...loaded.filter((one) => one.dropped.kind !== dropped.kind), { name, dropped }];
    } catch (error) {
      problems.push(`${name}: ${messageOf(error)}`);
    }
  }
  await show(problems);
}

const find = <K extends Dropped["kind"]>(kind: K) =>
  loaded.find((one) => one.dropped.kind === kind)?.dropped as Extract<Dropped, { kind: K }> | undefined;

function expected(evidence: AnyEvidence): ExpectedReportData | undefined {
  const text = byId<HTMLInputElement>("nonce").value.trim();
  const bytes = text === "" ? undefined : fromHex(text);
  if (text !== "" && bytes === undefined) throw new TypeError("the nonce is not hexadecimal");
  return bytes === undefined ? undefined : expectNonce(evidence, bytes);
}

async function judge(evidence: AnyEvidence, now: Date): Promise<Report> {
  const { kind: _, ...collateral } = find("collateral") ?? { kind: "" };
  const trust =
    simulated?.trust === undefined
      ? intelRoot
      : { name: "SIMULATED root", rootKey: fromHex(simulated.trust)! };
  const judgement = {
    now,
    trust,
    ...collateral,
    ...(simulated?.amdRoots && { amdRoots: simulated.amdRoots }),
  };
  const policy = find("policy")?.policy;
  if (policy === undefined) return verifyGenuine(evidence, judgement);
  const expectedReportData = expected(evidence);
  const references = find("references")?.references ?? [];
  return verifyEvidence(evidence, {
    releases: releaseJudge(),
    ...judgement,
    policy,
    references,
    ...(expectedReportData && { expectedReportData }),
  });
}

async function show(problems: string[]): Promise<void> {
  const files = loaded.map(({ name, dropped }) => el("li", {}, `${kinds[dropped.kind]}: ${name}`));
  byId("files").replaceChildren(...files);
  byId("problems").replaceChildren(...problems.map((text) => el("li", {}, text)));
  byId("clear").hidden = loaded.length === 0;
  const result = byId("result");
  const evidence = find("evidence")?.evidence;
  if (evidence === undefined) return result.replaceChildren();
  try {
    const at = byId<HTMLInputElement>("at").value;
    const now = at === "" ? new Date() : new Date(at);
    if (Number.isNaN(now.getTime())) throw new TypeError("the time is not one");
    const report = await judge(evidence, now);
    const registers = await registersOf(evidence, find("references")?.predicted ?? []).catch(() => undefined);
    result.replaceChildren(
      ...reportView(report),
      ...registerView(registers),
      ...fieldsView(describe(evidence)),
    );
    result.focus({ preventScroll: true });
    // The verdict, and not the button that led to it: on a phone a list of examples is longer than the screen.
    result.scrollIntoView();
  } catch (error) {
    result.replaceChildren(el("p", { class: "fail", role: "alert" }, messageOf(error)));
  }
}

const words = {
  genuine: { accepted: "Genuine", rejected: "Not genuine", undetermined: "Cannot tell" },
  "genuine-and-acceptable": { accepted: "Accepted", rejected: "Rejected", undetermined: "Cannot tell" },
};
const question = (scope: Report["scope"], { evidence, subject }: Terms): string =>
  scope === "genuine"
    ? `Is the ${evidence} genuine? Without a policy nothing is said about what runs in the ${subject}.`
    : `Is the ${evidence} genuine, and what the policy wants?`;
/** Why nobody can tell. */
const doubts: Record<Doubt, string> = {
  form: "This version does not know its form: a newer one may.",
  later: "It was made after the time at which it is judged.",
  missing: "Not all that vouches for it is here: drop its collateral, too.",
  day: "What vouches for it is not valid at this time: drop newer collateral, or judge as of another day.",
  collateral: "This collateral cannot vouch for it: another platform's, or not as its maker signs it.",
};
const marks = { pass: "pass", fail: "FAIL", open: "open", unreached: "----" };
/** A check that was not asked is another thing than one that the policy leaves open. */
const shownAs = ({ outcome, reason }: Check): keyof typeof marks =>
  outcome !== "not-checked" ? outcome : reason === notReached ? "unreached" : "open";

/** To the second. */
const moment = (iso: string): string => iso.replace(/\.\d+Z$/, "Z");

function platformText(platform: PlatformSummary): string {
  if (platform.tee === "snp") return `SEV-SNP on ${platform.product}`;
  if (platform.tee === "nitro")
    return platform.kind === "tpm" ? "A NitroTPM of AWS" : "A Nitro enclave of AWS";
  return `${platform.tee.toUpperCase()}, ${platform.tcbStatus}`;
}

function reportView({ verdict, scope, at, codes, platform, checks }: Report): HTMLElement[] {
  const terms = termsOf({ checks });
  const tone = verdict === "accepted" ? "pass" : verdict === "rejected" ? "fail" : "open";
  // What is wrong comes first.
  const ordered = [...checks].sort((a, b) => Number(b.outcome === "fail") - Number(a.outcome === "fail"));
  const rows = ordered.map((check) => {
    const { id, outcome, code, reason, expected: wanted, actual } = check;
    return el(
      "tr",
      { "data-outcome": shownAs(check) },
      el("td", {}, marks[shownAs(check)]),
      el("th", { scope: "row" }, id),
      el(
        "td",
        {},
        [reason, outcome === "fail" ? undefined : actual].filter(Boolean).join("; "),
        outcome === "fail" && code !== undefined ? el("div", {}, code) : undefined,
        outcome === "fail" && wanted !== undefined ? el("div", {}, `expected ${wanted}`) : undefined,
        outcome === "fail" && actual !== undefined ? el("div", {}, `found ${actual}`) : undefined,
      ),
    );
  });
  return [
    ...(simulated === undefined
      ? []
      : [
          el(
            "p",
            { class: "simulated" },
            "SIMULATED: an example under a test root. It proves nothing about hardware.",
          ),
        ]),
    el("h2", { class: `verdict ${tone}` }, words[scope][verdict]),
    el("p", {}, question(scope, terms), ` Judged as of ${moment(at)}.`),
    ...(verdict !== "undetermined"
      ? []
      : [
          el(
            "p",
            { class: "open" },
            `Nothing is wrong with it as far as it was judged. ${doubts[doubtOf(codes)]}`,
          ),
        ]),
    ...(codes.length === 0 ? [] : [el("p", { class: tone }, `Because of ${codes.join(", ")}`)]),
    ...(platform === undefined
      ? []
      : [
          el(
            "p",
            {},
            `${platformText(platform)} under ${platform.root}, valid until ${moment(platform.validUntil)}`,
          ),
        ]),
    el("h3", {}, "Checks"),
    el("div", { class: "wide" }, el("table", {}, el("tbody", {}, ...rows))),
  ];
}

function registerView(registers: readonly RegisterView[] | undefined): HTMLElement[] {
  if (registers === undefined) return [];
  return [
    el("h3", {}, "Registers"),
    ...registers.map(({ name, value, replays, events }) =>
      el(
        "details",
        {},
        el(
          "summary",
          {},
          el("b", {}, name),
          " ",
          el("code", {}, value),
          replays === undefined
            ? undefined
            : el(
                "span",
                { class: replays ? "pass" : "fail" },
                replays ? " its events replay to it" : " its events do NOT replay to it",
              ),
        ),
        events.length === 0
          ? el("p", {}, "No log says what it consists of.")
          : el(
              "ol",
              {},
              ...events.map((event) =>
                el(
                  "li",
                  {},
                  el("b", {}, event.name),
                  event.detail === "" || event.detail === event.name ? undefined : ` ${event.detail}`,
                  event.file === undefined ? undefined : el("div", { class: "file" }, `from ${event.file}`),
                  el("div", {}, el("code", {}, event.digest)),
                ),
              ),
            ),
      ),
    ),
  ];
}

function describe(evidence: AnyEvidence): Description | undefined {
  try {
    return describeEvidence(evidence);
  } catch {
    return undefined;
  }
}

function fieldsView(description: Description | undefined): HTMLElement[] {
  if (description === undefined) return [];
  return [
    ...description.warnings.map((text) => el("p", { class: "fail", role: "alert" }, text)),
    el("h3", {}, "Every field"),
    ...Object.entries(description.groups).map(([group, fields]) =>
      el(
        "details",
        {},
        el("summary", {}, group),
        el(
          "dl",
          {},
          ...Object.entries(fields).flatMap(([name, value]) => [
            el("dt", {}, name),
            el("dd", {}, el("code", {}, value)),
          ]),
        ),
      ),
    ),
  ];
}

const read = async (files: Iterable<File>) =>
  Promise.all(
    [...files].map(async (file) => ({ name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) })),
  );

async function open(example: Example): Promise<void> {
  loaded = [];
  simulated = example.trust === undefined && example.amdRoots === undefined ? undefined : example;
  byId<HTMLInputElement>("at").value = example.at;
  byId<HTMLInputElement>("nonce").value = example.nonce;
  await take(example.files.map((file) => ({ name: file.name, bytes: bytesOfExample(file) })));
}

/** One's own files are never judged under an example's root. */
async function takeOwn(files: readonly { name: string; bytes: Uint8Array }[]): Promise<void> {
  if (simulated !== undefined) clear();
  await take(files);
}

function clear(): void {
  loaded = [];
  simulated = undefined;
  byId<HTMLInputElement>("at").value = "";
  byId<HTMLInputElement>("nonce").value = "";
}

/** Begins what an event asks for; what fails is said, like what a file fails with. */
function start(work: () => Promise<void>): void {
  work().catch((error: unknown) => {
    byId("problems").replaceChildren(el("li", {}, messageOf(error)));
  });
}

const drop = byId("drop");
const chooser = byId<HTMLInputElement>("chooser");
chooser.addEventListener("change", () =>
  start(async () => {
    await takeOwn(await read(chooser.files ?? []));
    chooser.value = "";
  }),
);
for (const type of ["dragenter", "dragover"]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  start(async () => takeOwn(await read(event.dataTransfer?.files ?? [])));
});
byId("take").addEventListener("click", () => {
  const text = byId<HTMLTextAreaElement>("text").value;
  if (text.trim() === "") return;
  start(() => takeOwn([{ name: "what was pasted", bytes: new TextEncoder().encode(text) }]));
});
byId("clear").addEventListener("click", () => {
  clear();
  start(() => show([]));
});
for (const id of ["at", "nonce"]) byId(id).addEventListener("change", () => start(() => show([])));

const shown = JSON.parse(byId("examples-data").textContent ?? "[]") as Example[];
byId("examples").append(
  ...shown.map((example) => {
    const button = el("button", { type: "button" }, example.name);
    button.addEventListener("click", () => start(() => open(example)));
    return el("li", {}, button, " ", example.about);
  }),
);
