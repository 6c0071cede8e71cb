// SPDX-License-Identifier: Apache-2.0
/** Checks a guest of another origin, shows what was checked, and sends a form that only the guest reads. */
import {
  type Attestation,
  ChannelError,
  GuestChannel,
  type Report,
  readPolicy,
  readReferences,
} from "@caisson/client/browser";
import { releaseJudge } from "@caisson/verify/releases";

const element = <Kind extends HTMLElement>(id: string): Kind => document.getElementById(id) as Kind;

/** What the page was made with: where the guest is, and by what it is judged. */
interface Configuration {
  guest: string;
  policy: unknown;
  references: unknown;
  collateral?: object;
}

/** What a report says of every check behind the one that failed. */
const notReached = "an earlier check failed";
const results = { pass: "passed", fail: "failed", "not-checked": "left open" } as const;

function show(report: Report): void {
  const platform = report.platform;
  const facts: [string, string | undefined][] = [
    ["Verdict", report.verdict],
    ["Reference", report.reference],
    ["Platform vouched for by", platform?.root],
    [
      "TCB status",
      platform && "tcbStatus" in platform
        ? `${platform.tcbStatus}, as of ${platform.tcbDate.slice(0, 10)}`
        : undefined,
    ],
    ["Judged at", report.at],
    ["Good until", platform?.validUntil],
  ];
  element("facts").replaceChildren(
    ...facts.flatMap(([name, value]) => (value === undefined ? [] : [text("dt", name), text("dd", value)])),
  );
  const open = report.checks.filter(({ outcome }) => outcome === "not-checked");
  const lines = open
    .filter(({ reason }) => reason !== notReached)
    .map(({ id, reason }) => `${id}: ${reason ?? "the policy leaves it open"}`);
  if (lines.length < open.length) lines.push(`${open.length - lines.length} more: ${notReached}`);
  element("open").replaceChildren(
    ...(lines.length === 0 ? ["nothing"] : lines).map((line) => text("li", line)),
  );
  element("checks").replaceChildren(
    ...report.checks.map(({ id, outcome, code, source }) => {
      const row = document.createElement("tr");
      const result = text("td", code === undefined ? results[outcome] : `failed: ${code}`);
      result.className = outcome;
      row.append(text("td", id), result, text("td", source));
      return row;
    }),
  );
  element("details").hidden = false;
}

function text(name: string, content: string): HTMLElement {
  const made = document.createElement(name);
  made.textContent = content;
  return made;
}

/** Says that something was refused; screen readers read it out. */
function refuse(id: string, error: unknown): void {
  const place = element(id);
  const code = error instanceof Error && "code" in error ? `   [${String(error.code)}]` : "";
  place.textContent = `${error instanceof Error ? error.message : String(error)}${code}`;
  place.hidden = false;
  if (error instanceof ChannelError && error.report !== undefined) show(error.report);
}

const send = element<HTMLButtonElement>("send");
const verdict = element("verdict");

/** A guest of which nothing is known yet. Throws where the page was made with something else than a judgement. */
async function newChannel(): Promise<GuestChannel> {
  const { guest, policy, references, collateral } = (await (
    await fetch("configuration.json")
  ).json()) as Configuration;
  return new GuestChannel(guest, {
    policy: readPolicy(policy),
    references: readReferences(references, "the reference values of this page"),
    releases: releaseJudge(),
    ...(collateral && { collateral: collateral as never }),
  });
}

let channel: GuestChannel | undefined;
let checks = 0;

/** Nothing can be sent, and why. */
function refuseAll(error: unknown): void {
  verdict.className = "verdict";
  verdict.textContent = "Refused: nothing can be sent.";
  send.disabled = true;
  refuse("refusal", error);
}

/** Asks anew. Of several at once only the last counts. */
async function check(): Promise<void> {
  const own = ++checks;
  channel = undefined;
  for (const id of ["refusal", "failure"]) element(id).hidden = true;
  element("answer").textContent = "";
  verdict.className = "verdict";
  verdict.textContent = "Checking the machine …";
  send.disabled = true;
  try {
    const asked = await newChannel();
    const attestation: Attestation = await asked.attest();
    if (own !== checks) return;
    channel = asked;
    show(attestation.report);
    const passed = attestation.report.checks.filter(({ outcome }) => outcome === "pass").length;
    verdict.classList.add("accepted");
    verdict.textContent = `Accepted: ${asked.origin} is the machine that this page expects (${passed} checks passed). What you send is sealed to it.`;
    send.disabled = false;
  } catch (error) {
    if (own === checks) refuseAll(error);
  }
}

element("again").addEventListener("click", () => void check());
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void submit();
});

async function submit(): Promise<void> {
  const used = channel;
  if (used === undefined) return;
  const answer = element("answer");
  element("failure").hidden = true;
  answer.textContent = "Sending …";
  send.disabled = true;
  try {
    const response = await used.fetch("/form", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ message: element<HTMLTextAreaElement>("message").value }),
    });
    const { thanks, error } = (await response.json()) as { thanks?: string; error?: string };
    answer.textContent = thanks ?? `The machine refused the form: ${error}`;
  } catch (error) {
    answer.textContent = "";
    refuse("failure", error);
    // It was judged again on the way, and is not the machine that it was.
    if (used === channel && used.attestation === undefined) refuseAll(error);
  } finally {
    send.disabled = channel === undefined || channel.attestation === undefined;
    // A button that is disabled loses the keyboard.
    if (document.activeElement === document.body && !send.disabled) send.focus();
  }
}

await check();
