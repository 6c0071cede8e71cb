// SPDX-License-Identifier: Apache-2.0
/** `caisson audit`: is this image, this running guest, this evidence really built that way, control by control? */

import { hash } from "node:crypto";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { isDeepStrictEqual } from "node:util";
import {
  type Audit,
  AuditError,
  audit,
  type Control,
  type ControlCheck,
  catalogue,
  collectImage,
  collectRootTree,
  controlOf,
  explainControl,
  type Facts,
  fetchLiveReport,
  graph,
  graphSvg,
  isRootTree,
  list,
  type Provenance,
  page,
  parseBaseline,
  readLiveReport,
  readReport,
  type Subject,
  sarif,
  table,
  verdictLine,
} from "@caisson/audit";
import { parseKernelConfig } from "@caisson/audit/kernel-config";
import { readManifest } from "@caisson/image/manifest";
import { verifyEvidence } from "@caisson/verify";
import { readEvidence } from "@caisson/verify/every-form";
import { readYaml } from "@caisson/verify/policy-text";
import { messageOf } from "@caisson/vocabulary/failure";
import { Command } from "commander";
import ownPackage from "../../../../package.json" with { type: "json" };
import { liveReportOf } from "../development-machine.ts";
import { UsageError } from "../failure.ts";
import {
  bytesOf,
  parseTime,
  readBounded,
  readCollateralFile,
  readPolicyFile,
  readReferenceFiles,
  readText,
} from "../judgement-files.ts";
import { writeFile } from "../output-file.ts";
import { jsonText } from "../views/answer.ts";
import { fold } from "../views/fold.ts";
import { shellWord } from "../views/shell-word.ts";

interface Options {
  live?: string;
  policy?: string;
  image: string[];
  collateral?: string;
  nonce?: string;
  at?: string;
  baseline?: string;
  json?: boolean;
  sarif?: string;
  html?: string;
  explain?: string;
  list?: boolean;
  graph?: boolean;
  svg?: string;
  all?: boolean;
}

/** A control for a program: what each of its checks expects, or why there is none. */
function controlDocument({ static: image, live, remote, ...control }: Control): object {
  const expects = (check: ControlCheck<never>) =>
    typeof check === "string" ? { none: check } : check.map((each) => each.expects);
  return { ...control, checks: { static: expects(image), live: expects(live), remote: expects(remote) } };
}

const repository = new URL("../../../../", import.meta.url).pathname;

/** The decision records, known gaps and boundaries that speak of a control; paths in this repository. */
function documentsOf(id: string): string[] {
  const records = globSync("docs/decisions/*.md", { cwd: repository }).sort();
  return [...records, "docs/threat-model.md", "docs/trust-boundaries.md"].filter((path) =>
    new RegExp(`\\b${id}\\b`).test(readFileSync(join(repository, path), "utf8")),
  );
}

/** A directory is an image, or the root of another system; a JSON file is evidence, or what the verifier reported of it. */
async function collect(paths: readonly string[], options: Options) {
  const facts: Partial<Facts> = {};
  const subjects: Provenance["subjects"] = {};
  const take = <K extends keyof Facts>(
    kind: K,
    name: string,
    value: Facts[K],
    hashes: Subject["hashes"] = [],
    files: Omit<Subject, "name" | "hashes"> = {},
  ): void => {
    if (facts[kind] !== undefined)
      throw new UsageError(
        `two subjects of one kind: ${subjects[kind]!.name} and ${name}`,
        "give one image, one guest, one report",
      );
    facts[kind] = value;
    subjects[kind] = { name, hashes, ...files };
  };
  for (const path of paths) {
    if (!existsSync(path)) throw new AuditError("audit/subject", `${path} does not exist`);
    if (!statSync(path).isDirectory()) {
      take("remote", path, await readEvidenceFacts(path, options), [
        ["sha256", hash("sha256", readFileSync(path))],
      ]);
    } else if (isRootTree(path)) take("static", path, collectRootTree(path));
    else {
      const image = await collectImage(path);
      take("static", path, image, imageHashes(path), imageFiles(path, image));
    }
  }
  if (options.live !== undefined) take("live", options.live, await liveReport(options.live));
  return { facts, subjects };
}

/** The report of a machine that `up` runs here, whatever its application does, or what an address or a file gives. */
async function liveReport(source: string): ReturnType<typeof fetchLiveReport> {
  const spec = /\.ya?ml$/.test(source) || statSync(source, { throwIfNoEntry: false })?.isDirectory();
  return spec === true ? readLiveReport(await liveReportOf(source), source) : fetchLiveReport(source);
}

/** What an image is known by; that its files are what the manifest says is a control of the audit. */
function imageHashes(directory: string): Subject["hashes"] {
  const { kernel, rootfs } = readManifest(directory);
  return [
    ["manifest", hash("sha256", readFileSync(join(directory, "manifest.json")))],
    ["kernel", kernel.sha256],
    ["root hash", rootfs.verity.rootHash],
  ];
}

/** Its manifest, and the resolved configuration of this repository that its kernel was made with. */
function imageFiles(directory: string, { kernel }: Facts["static"]): Omit<Subject, "name" | "hashes"> {
  const manifest = join(directory, "manifest.json");
  const resolved = globSync("kernel/resolved-*.config", { cwd: repository })
    .map((path) => ({ path, text: readFileSync(join(repository, path), "utf8") }))
    .find(({ text }) => isDeepStrictEqual(parseKernelConfig(text), kernel.config));
  return {
    manifest: { path: manifest, text: readFileSync(manifest, "utf8") },
    ...(resolved !== undefined && {
      kernelConfig: { path: relative(process.cwd(), join(repository, resolved.path)), text: resolved.text },
    }),
  };
}

/** A verification report as it is, or evidence, which is then verified under `--policy`. */
async function readEvidenceFacts(path: string, options: Options): Promise<Facts["remote"]> {
  const bytes = readBounded(path);
  let value: { version?: unknown };
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new AuditError("evidence/report", `${path} is not JSON: ${messageOf(error)}`, {
      fix: "an image's directory, evidence, or a report of caisson verify --json",
    });
  }
  if (value?.version !== "caisson/evidence/v1") return readReport(value);
  if (options.policy === undefined) {
    throw new UsageError("evidence is judged by a policy", "add --policy FILE and --image MANIFEST");
  }
  const judgement = {
    policy: readPolicyFile(options.policy),
    references: readReferenceFiles(options.image),
    now: parseTime(options.at),
    ...(options.collateral !== undefined && { collateral: readCollateralFile(options.collateral) }),
    ...(options.nonce !== undefined && {
      expectedReportData: {
        scheme: "caisson/app/v1",
        fields: { nonce: bytesOf("--nonce", options.nonce) },
      } as const,
    }),
  };
  return readReport(await verifyEvidence(readEvidence(bytes), judgement));
}

function readBaseline(path: string | undefined) {
  if (path === undefined) return [];
  try {
    return parseBaseline(readYaml(readText(path)));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new AuditError("baseline/schema", `${path} is not YAML: ${error.message}`);
  }
}

/** The result as one document. */
function jsonDocument(result: Audit, { version, ...provenance }: Provenance): object {
  return {
    version: "caisson/audit/v1",
    verdict: verdictLine(result),
    caisson: version,
    ...provenance,
    kinds: result.kinds,
    failedRequired: result.failedRequired,
    scores: result.scores,
    inventory: result.inventory,
    remarks: result.remarks,
    controls: result.rows.map(({ control: { id, group, decision, severity, title }, results }) => ({
      id,
      group,
      decision,
      severity,
      title,
      results,
    })),
  };
}

const print = (text: string) => process.stdout.write(text);

/** Everything about the control of this id. */
function explain(id: string, options: Options): void {
  const control = controlOf(id);
  if (control === undefined) {
    throw new AuditError("audit/unknown-control", `there is no control '${id}'`, {
      kind: "usage",
      fix: "caisson audit --list",
    });
  }
  const documents = documentsOf(control.id);
  if (options.json === true) {
    print(jsonText({ ...controlDocument(control), documents }));
    return;
  }
  const text = [explainControl(control), ...documents.map((path) => `  document   ${path}\n`)].join("");
  print(fold(text, process.stdout.columns));
}

/** The running guest as text, and as a picture where one is asked for. */
function draw({ live }: Partial<Facts>, { svg }: Options): void {
  if (live === undefined) throw new UsageError("--graph draws a running guest", "add --live SOURCE");
  if (svg !== undefined) writeFile(svg, graphSvg(live));
  print(graph(live));
}

/**
 * The audit of these facts in the forms that are asked for. Throws AuditError `audit/failed` when a required control
 * does not hold.
 */
function report(
  facts: Partial<Facts>,
  acceptances: ReturnType<typeof readBaseline>,
  subjects: Provenance["subjects"],
  options: Options,
): void {
  const now = new Date();
  const result = audit(facts, acceptances, now);
  const provenance: Provenance = {
    at: now.toISOString(),
    version: ownPackage.version,
    command: ["caisson", ...process.argv.slice(2).map(shellWord)].join(" "),
    subjects,
  };
  if (options.sarif !== undefined) writeFile(options.sarif, jsonText(sarif(result, provenance)));
  if (options.html !== undefined) writeFile(options.html, page(result, provenance));
  print(
    options.json === true
      ? jsonText(jsonDocument(result, provenance))
      : fold(table(result, provenance, options.all), process.stdout.columns),
  );
  const { failedRequired } = result;
  if (failedRequired.length === 0) return;
  throw new AuditError(
    "audit/failed",
    `${failedRequired.length} required controls do not hold: ${failedRequired.join(", ")}`,
    { kind: "rejected", fix: "caisson audit --explain ID" },
  );
}

export const command = new Command("caisson audit")
  .description(
    "Checks how an image, a running guest or evidence is built, control by control. Exit code 10: a required one does not hold.",
  )
  .argument(
    "[subjects...]",
    "an image directory (or another system's root, to compare), and/or evidence or a report of caisson verify --json",
  )
  .option(
    "--live <source>",
    "the report of a running guest: the spec of one that caisson up runs here, its application's URL, or a file",
  )
  .option("--policy <file>", "the policy under which evidence is verified first")
  .option("--image <file...>", "reference values for it: manifests, or files of caisson measure --json", [])
  .option("--collateral <file>", "Intel's collateral for it, where it carries none")
  .option("--nonce <hex>", "the nonce that its report data must bind")
  .option("--at <time>", "verify as of this time (ISO 8601); now when left out")
  .option("--baseline <file>", "accepted failures, each with reason and expiry (YAML or JSON)")
  .option("--json", "one JSON document")
  .option("--sarif <file>", "write the findings as SARIF 2.1.0")
  .option("--html <file>", "write one self-contained page")
  .option("--explain <id>", "everything about one control")
  .option("--list", "every control")
  .option("--graph", "draw the running guest: processes, powers, what can be written and reached")
  .option("--svg <file>", "with --graph: write it as a picture as well")
  .option("--all", "show every reason, not those of failures alone")
  .action(async (paths: string[], options: Options) => {
    if (options.explain !== undefined) return explain(options.explain, options);
    if (options.list === true) {
      print(options.json === true ? jsonText({ controls: catalogue.map(controlDocument) }) : list(catalogue));
      return;
    }
    const acceptances = readBaseline(options.baseline);
    const { facts, subjects } = await collect(paths, options);
    if (Object.keys(facts).length === 0) {
      throw new UsageError(
        "there is nothing to audit",
        "name an image directory, --live SOURCE, or a verification report",
      );
    }
    if (options.graph === true) return draw(facts, options);
    if (options.svg !== undefined)
      throw new UsageError("--svg is the picture of --graph", "add --graph and --live SOURCE");
    report(facts, acceptances, subjects, options);
  });
