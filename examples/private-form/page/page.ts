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
  element("open").replaceChildren(
    ...open.map(({ id, reason }) => text("li", `${id}: ${reason ?? "the policy leaves it open"}`)),
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

const configuration = (await (await fetch("configuration.json")).json()) as Configuration;
const options = {
  policy: readPolicy(configuration.policy),
  references: readReferences(configuration.references, "the reference values of this page"),
  releases: releaseJudge(),
  ...(configuration.collateral && { collateral: configuration.collateral as never }),
};
let channel = new GuestChannel(configuration.guest, options);
const send = element<HTMLButtonElement>("send");
const verdict = element("verdict");

async function check(): Promise<void> {
  element("refusal").hidden = true;
  verdict.className = "verdict";
  verdict.textContent = `Checking ${channel.origin} …`;
  send.disabled = true;
  try {
    const attestation: Attestation = await channel.attest();
    show(attestation.report);
    const passed = attestation.report.checks.filter(({ outcome }) => outcome === "pass").length;
    verdict.classList.add("accepted");
    verdict.textContent = `Accepted: ${channel.origin} is the machine that this page expects (${passed} checks passed). What you send is sealed to it.`;
    send.disabled = false;
  } catch (error) {
    verdict.textContent = "Refused: nothing can be sent.";
    refuse("refusal", error);
  }
}

element("again").addEventListener("click", () => {
  channel = new GuestChannel(configuration.guest, options);
  void check();
});
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void submit();
});

async function submit(): Promise<void> {
  const answer = element("answer");
  element("failure").hidden = true;
  answer.textContent = "Sending …";
  send.disabled = true;
  try {
    const response = await channel.fetch("/form", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ message: element<HTMLTextAreaElement>("message").value }),
    });
    const { thanks, error } = (await response.json()) as { thanks?: string; error?: string };
    answer.textContent = thanks ?? `The machine refused the form: ${error}`;
  } catch (error) {
    answer.textContent = "";
    refuse("failure", error);
  } finally {
    send.disabled = false;
  }
}

await check();
