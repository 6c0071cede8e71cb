// SPDX-License-Identifier: Apache-2.0
/**
 * Which packages a group needs: the highest versions that satisfy every dependency, deterministically.
 *
 * Two steps. First, what cannot be installed whatever else is chosen (a dependency that nothing satisfies) is struck
 * out until nothing more falls; this finds nearly every failure, with the chain that leads to it. Then a depth-first
 * search takes alternatives in the order in which they are written, higher versions first, and goes back only on
 * conflicts. Relations: Debian Policy 7. Recommends and Suggests do not count.
 */

import { ImageError } from "../errors.ts";
import type { PackageStanza } from "./archive.ts";
import { compareVersions, type Relation, satisfies } from "./version.ts";

/** One alternative of a dependency: `name:qualifier (relation version)`. */
interface Term {
  name: string;
  qualifier: string | undefined;
  bound: { relation: Relation; version: string } | undefined;
}

/** `a | b`, as parsed, and as written. */
interface Clause {
  terms: Term[];
  text: string;
}

/** A package of an index whose fields were parsed. */
export interface Candidate {
  name: string;
  version: string;
  architecture: "amd64" | "all";
  suite: string;
  path: string;
  size: number;
  sha256: string;
  multiArch: string;
  depends: Clause[];
  /** Conflicts and Breaks: for packages that are unpacked together they mean the same. */
  conflicts: Term[];
  provides: Term[];
}

const termForm = /^([a-z0-9][a-z0-9.+-]*)(?::([a-z0-9-]+))?(?:\s*\(\s*(<<|<=|=|>=|>>)\s*([^\s()]+)\s*\))?$/;

function parseTerm(text: string, where: string): Term {
  const match = termForm.exec(text.trim());
  if (match === null)
    throw new ImageError("lock/index", `${where}: '${text.trim().slice(0, 80)}' is not a package relation`);
  const [, name, qualifier, relation, version] = match;
  return {
    name: name!,
    qualifier,
    bound: relation === undefined ? undefined : { relation: relation as Relation, version: version! },
  };
}

function parseClauses(field: string | undefined, where: string): Clause[] {
  if (field === undefined || field === "") return [];
  return field.split(",").map((clause) => ({
    text: clause.trim().replace(/\s+/g, " "),
    terms: clause.split("|").map((term) => parseTerm(term, where)),
  }));
}

function parseCandidate(stanza: PackageStanza): Candidate {
  const fields = stanza.fields();
  const where = `${stanza.name} in ${stanza.suite}`;
  const need = (name: string, form: RegExp): string => {
    const value = fields.get(name) ?? "";
    if (!form.test(value)) throw new ImageError("lock/index", `${where}: ${name} is '${value.slice(0, 80)}'`);
    return value;
  };
  const path = need("Filename", /^pool\/[A-Za-z0-9.+~_/%:-]+\.deb$/);
  if (path.split("/").some((part) => part === "" || part === "." || part === "..")) {
    throw new ImageError("lock/index", `${where}: Filename is '${path}'`);
  }
  const terms = (name: string) => parseClauses(fields.get(name), where).flatMap((clause) => clause.terms);
  return {
    name: stanza.name,
    version: need("Version", /^[0-9][A-Za-z0-9.+~:-]*$/),
    architecture: need("Architecture", /^(?:amd64|all)$/) as "amd64" | "all",
    suite: stanza.suite,
    path,
    size: Number(need("Size", /^[0-9]{1,10}$/)),
    sha256: need("SHA256", /^[0-9a-f]{64}$/),
    multiArch: fields.get("Multi-Arch") ?? "no",
    depends: [
      ...parseClauses(fields.get("Pre-Depends"), where),
      ...parseClauses(fields.get("Depends"), where),
    ],
    conflicts: [...terms("Conflicts"), ...terms("Breaks")],
    provides: terms("Provides"),
  };
}

/** The packages of some suites, found by name and by what they provide. */
class Universe {
  private readonly byName = new Map<string, PackageStanza[]>();
  private readonly byProvided = new Map<string, PackageStanza[]>();
  private readonly parsed = new Map<PackageStanza, Candidate>();
  private readonly suites: readonly string[];

  constructor(indexes: ReadonlyMap<string, readonly PackageStanza[]>, suites: readonly string[]) {
    this.suites = suites;
    for (const suite of suites) {
      for (const stanza of indexes.get(suite) ?? []) {
        push(this.byName, stanza.name, stanza);
        for (const provided of stanza.provides === "" ? [] : stanza.provides.split(",")) {
          push(this.byProvided, /^[^\s(:]*/.exec(provided.trim())![0], stanza);
        }
      }
    }
  }

  private parse(stanza: PackageStanza): Candidate {
    let candidate = this.parsed.get(stanza);
    if (candidate === undefined) this.parsed.set(stanza, (candidate = parseCandidate(stanza)));
    return candidate;
  }

  private sorted(stanzas: readonly PackageStanza[] | undefined): Candidate[] {
    return (stanzas ?? [])
      .map((stanza) => this.parse(stanza))
      .sort(
        (a, b) =>
          (a.name < b.name ? -1 : a.name > b.name ? 1 : 0) ||
          compareVersions(b.version, a.version) ||
          this.suites.indexOf(a.suite) - this.suites.indexOf(b.suite),
      );
  }

  /** What satisfies a term, best first: the package itself by falling version, then those that provide it by name. */
  options(term: Term): Candidate[] {
    const real = this.sorted(this.byName.get(term.name));
    const virtual = this.sorted(this.byProvided.get(term.name));
    return [...new Set([...real, ...virtual])].filter((candidate) => matches(term, candidate));
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

/** Whether `candidate`, by its name or by what it provides, is what `term` asks for (Policy 7.5 for the latter). */
function matches(term: Term, candidate: Candidate): boolean {
  const { name, qualifier, bound } = term;
  if (qualifier !== undefined && qualifier !== "amd64" && qualifier !== "native") {
    if (qualifier !== "any" || candidate.multiArch !== "allowed") return false;
  }
  if (
    candidate.name === name &&
    (bound === undefined || satisfies(candidate.version, bound.relation, bound.version))
  ) {
    return true;
  }
  return candidate.provides.some(
    (provided) =>
      provided.name === name &&
      (bound === undefined ||
        (provided.bound?.relation === "=" &&
          satisfies(provided.bound.version, bound.relation, bound.version))),
  );
}

const inConflict = (a: Candidate, b: Candidate): boolean =>
  a.name === b.name ||
  a.conflicts.some((term) => matches(term, b)) ||
  b.conflicts.some((term) => matches(term, a));

const label = ({ name, version }: Candidate) => `${name} ${version}`;

/** What must be satisfied, and for whom: the chain of packages from a requested one. */
interface Demand {
  clause: Clause;
  chain: readonly Candidate[];
}

const request = (name: string): Demand => ({
  clause: { text: name, terms: [{ name, qualifier: undefined, bound: undefined }] },
  chain: [],
});

function chainFacts(demand: Demand): [string, string][] {
  return [
    ...demand.chain.map((candidate, depth): [string, string] => [
      depth === 0 ? "chosen" : "needs",
      label(candidate),
    ]),
    ["needs", demand.clause.text],
  ];
}

interface Installable {
  /** What satisfies a clause and is not struck out, best first. */
  options: (clause: Clause) => Candidate[];
  /** Why a candidate is struck out: the clause for which nothing was left. */
  blame: ReadonlyMap<Candidate, Clause>;
}

/** Strikes out candidates that nothing could make installable, until no more fall. */
function strikeOut(universe: Universe, names: readonly string[]): Installable {
  const blame = new Map<Candidate, Clause>();
  const cache = new Map<Clause, Candidate[]>();
  const options = (clause: Clause): Candidate[] => {
    let found = cache.get(clause);
    if (found === undefined) {
      found = [...new Set(clause.terms.flatMap((term) => universe.options(term)))];
      cache.set(clause, found);
    }
    return found.filter((candidate) => !blame.has(candidate));
  };
  for (let before = -1; before !== blame.size; ) {
    before = blame.size;
    const seen = new Set<Candidate>();
    const pending = names.flatMap((name) => options(request(name).clause));
    for (let candidate = pending.pop(); candidate !== undefined; candidate = pending.pop()) {
      if (seen.has(candidate)) continue;
      seen.add(candidate);
      for (const clause of candidate.depends) {
        const left = options(clause);
        if (left.length === 0 && !blame.has(candidate)) blame.set(candidate, clause);
        pending.push(...left);
      }
    }
  }
  return { options, blame };
}

/** Follows the first choice from `name` down to the dependency that nothing satisfies. */
function unsatisfied(universe: Universe, name: string, { blame }: Installable): ImageError {
  let demand = request(name);
  for (;;) {
    const [first] = demand.clause.terms.flatMap((term) => universe.options(term));
    if (first === undefined) break;
    // Everything that could have met a blamed clause fell earlier, so this comes to an end.
    demand = { clause: blame.get(first)!, chain: [...demand.chain, first] };
  }
  return new ImageError(
    "lock/unsatisfiable",
    `'${demand.clause.text}', which ${name} leads to, is in no suite`,
    {
      facts: chainFacts(demand),
    },
  );
}

/** The best candidate of this very name. */
function namedPackage(universe: Universe, name: string, suites: readonly string[]): Candidate {
  const found = universe.options(request(name).clause.terms[0]!).find((candidate) => candidate.name === name);
  if (found !== undefined) return found;
  throw new ImageError("lock/missing-package", `there is no package '${name}' in ${suites.join(", ")}`);
}

/** A search that goes back so often is hopeless; real ones never go back at all. */
const maximumSteps = 200_000;

/**
 * Chooses candidates until every demand is met, and goes back where a choice is in conflict with those before it.
 * Where nothing fits, the error is the conflict that the longest choice came to.
 */
function choose(requests: readonly Demand[], options: Installable["options"]): Candidate[] {
  const chosen: Candidate[] = [];
  let steps = 0;
  let deepest: { chosen: number; demand: Demand; candidate: Candidate; rival: Candidate } | undefined;

  /** Satisfies the demands from `at` on, each of which may add more at the end; false when that is impossible. */
  const search = (demands: readonly Demand[], at: number): boolean => {
    if (++steps > maximumSteps) return false;
    const isMet = ({ clause }: Demand) => options(clause).some((candidate) => chosen.includes(candidate));
    while (at < demands.length && isMet(demands[at]!)) at++;
    const demand = demands[at];
    if (demand === undefined) return true;
    for (const candidate of options(demand.clause)) {
      const rival = chosen.find((other) => inConflict(candidate, other));
      if (rival !== undefined) {
        if (deepest === undefined || chosen.length > deepest.chosen) {
          deepest = { chosen: chosen.length, demand, candidate, rival };
        }
        continue;
      }
      chosen.push(candidate);
      const chain = [...demand.chain, candidate];
      const more = candidate.depends.map((clause): Demand => ({ clause, chain }));
      if (search([...demands, ...more], at + 1)) return true;
      chosen.pop();
    }
    return false;
  };
  if (search(requests, 0)) return chosen;
  // Nothing was struck out that a demand can still come to: a conflict alone ends a search.
  const { demand, candidate, rival } = deepest!;
  throw new ImageError("lock/conflict", `${label(candidate)} cannot stand beside ${label(rival)}`, {
    facts: chainFacts(demand),
  });
}

/**
 * Chooses the packages of one group from `indexes` (suite name to packages), with what they depend on unless
 * `dependencies` is false. Sorted by name. Errors: ImageError `lock/missing-package`, `lock/unsatisfiable`,
 * `lock/conflict`, `lock/index`.
 */
export function resolve(
  group: { packages: readonly string[]; dependencies: boolean; suites: readonly string[] },
  indexes: ReadonlyMap<string, readonly PackageStanza[]>,
): Candidate[] {
  const universe = new Universe(indexes, group.suites);
  const byName = (a: Candidate, b: Candidate) => (a.name < b.name ? -1 : 1);
  const named = group.packages.map((name) => namedPackage(universe, name, group.suites));
  if (!group.dependencies) return named.sort(byName);

  const installable = strikeOut(universe, group.packages);
  for (const name of group.packages) {
    if (installable.options(request(name).clause).length === 0) {
      throw unsatisfied(universe, name, installable);
    }
  }
  return choose(group.packages.map(request), installable.options).sort(byName);
}
