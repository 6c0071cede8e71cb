// SPDX-License-Identifier: Apache-2.0
/** What CycloneDX's published schema says of a bill of materials, and what a schema cannot: that references are whole. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Ajv } from "ajv";
import formats from "ajv-formats";

const require = createRequire(import.meta.url);
const schemas = join(dirname(require.resolve("@cyclonedx/cyclonedx-library/package.json")), "res/schema");
const schema = (name: string) =>
  JSON.parse(readFileSync(join(schemas, `${name}.SNAPSHOT.schema.json`), "utf8")) as object;

// Not strict: the schemas have keywords and unions that ajv would refuse. What it does not know of formats is one
// format's international form, whose ASCII form is stricter.
const ajv = new Ajv({ allErrors: true, strict: false });
formats.default(ajv);
const inAscii = { "iri-reference": "uri-reference", "idn-email": "email" } as const;
for (const [name, ascii] of Object.entries(inAscii)) ajv.addFormat(name, formats.default.get(ascii));
// Under the names by which the schema of a document refers to them.
for (const name of ["spdx", "jsf-0.82"]) {
  ajv.addSchema(schema(name), `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`);
}
const isBom = ajv.compile(schema("bom-1.6"));

interface Component {
  "bom-ref"?: string;
  components?: Component[];
}

/** What is wrong with a CycloneDX 1.6 document; nothing where it is right. */
export function cyclonedxFaults(document: unknown): string[] {
  if (!isBom(document)) {
    return isBom.errors!.map(({ instancePath, message }) => `${instancePath || "/"} ${message}`);
  }
  const bom = document as {
    metadata: { component: Component };
    components: Component[];
    dependencies: { ref: string; dependsOn: string[] }[];
    formulation: Component[];
  };
  const refsOf = (component: Component): string[] => [
    ...(component["bom-ref"] === undefined ? [] : [component["bom-ref"]]),
    ...(component.components ?? []).flatMap(refsOf),
  ];
  const refs = [bom.metadata.component, ...bom.components, ...bom.formulation].flatMap(refsOf);
  const twice = refs.filter((ref, index) => refs.indexOf(ref) !== index);
  const named = bom.dependencies.flatMap(({ ref, dependsOn }) => [ref, ...dependsOn]);
  return [
    ...twice.map((ref) => `the reference ${ref} stands twice`),
    ...named.filter((ref) => !refs.includes(ref)).map((ref) => `nothing is called ${ref}`),
  ];
}
