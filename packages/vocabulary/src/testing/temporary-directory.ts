// SPDX-License-Identifier: Apache-2.0
/** A place for what a test writes. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext } from "node:test";

/**
 * Makes an empty directory below the system's temporary one, with `name` in its own, and returns its path. It is removed
 * after the test `t`; without `t`, after all tests of the file.
 */
export function temporaryDirectory(name: string, t?: Pick<TestContext, "after">): string {
  const path = mkdtempSync(join(tmpdir(), `caisson-${name}-`));
  const remove = () => rmSync(path, { recursive: true, force: true });
  if (t === undefined) after(remove);
  else t.after(remove);
  return path;
}
