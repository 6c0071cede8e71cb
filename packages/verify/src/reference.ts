/**
 * Reference values: the registers that a relying party expects, from a Caisson manifest, from a measurement file
 * (`caisson measure --json`), or written out. Each source becomes a list of tuples with names.
 */
import { VerifyError } from "./errors.ts";
import { type PlatformName, platforms } from "./evidence.ts";
import { hex, SchemaError } from "./schema.ts";

/** Registers that a reference can fix; RTMR3 is judged by its events instead. */
export const registerNames = ["mrtd", "rtmr0", "rtmr1", "rtmr2"] as const;
export type RegisterName = (typeof registerNames)[number];

/** One expected state. Registers that are left out are not covered by it. Hexadecimal, lower case. */
export interface Reference {
  /** For reports: where it comes from, such as "manifest/tdx/2-cpus". */
  name: string;
  /** Undefined: for either platform. */
  platform?: PlatformName;
  registers: Partial<Record<RegisterName, string>>;
}

const registerValue = hex(48);
const MAX_REFERENCES = 4096;
/** Levels of grouping (by platform, by machine shape…) that are followed. */
const MAX_DEPTH = 6;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/**
 * Collects every register tuple of a document: a manifest's `measurements`, a measurement's `registers`, or tuples
 * themselves, in lists or grouped by name. Keys `tdx` and `emulated` say for which platform a group is. What is not
 * a register (shapes, versions, digests) is left unread; a register that is no 48-byte value is an error.
 *
 * @param label names the document in reports
 * @throws VerifyError "reference/malformed", also when the document holds no register at all
 */
export function readReferences(document: unknown, label: string): Reference[] {
  const found: Reference[] = [];
  const visit = (value: unknown, name: string, platform: PlatformName | undefined, depth: number): void => {
    if (!isObject(value) || depth > MAX_DEPTH) return;
    const registers: Reference["registers"] = {};
    for (const register of registerNames) {
      const text = value[register];
      if (text !== undefined && text !== null)
        registers[register] = registerValue(text, `${name}.${register}`);
    }
    if (Object.keys(registers).length > 0) {
      if (found.length === MAX_REFERENCES)
        throw new SchemaError(name, `more than ${MAX_REFERENCES} references`);
      found.push({ name, ...(platform === undefined ? {} : { platform }), registers });
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      const named = platforms.find((candidate) => candidate === key);
      visit(inner, `${name}/${key}`, named ?? platform, depth + 1);
    }
  };
  try {
    const root = isObject(document) && isObject(document.measurements) ? document.measurements : document;
    visit(root, label, undefined, 0);
    if (found.length === 0) throw new SchemaError("", "it holds no register values");
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error;
    throw new VerifyError("reference/malformed", `${label} gives no reference values: ${error.message}`, {
      where: error.path || "the whole document",
    });
  }
  return found;
}
