import { doesNotThrow, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { sysctlsFor } from "../sysctls.ts";
import { checkCommandLine } from "./posture.ts";

const root = `dm-mod.create="root,,,ro,0 80 verity 1 /dev/vda /dev/vda 4096 4096 10 10 sha256 ${"a1".repeat(32)} ${"00".repeat(32)} 1 panic_on_corruption"`;
const expected = ["console=ttyS0", "dm-mod.create=", "tsc=reliable", "--", "/usr/lib/caisson/init.mjs"];
const live = ["console=ttyS0", root, "tsc=reliable", "--", "/usr/lib/caisson/init.mjs"];

test("the measured command line is accepted", () => {
  doesNotThrow(() => checkCommandLine(live.join(" "), expected));
});

const changes: Record<string, string[]> = {
  "a token added at the end": [...live, "init=/bin/sh"],
  "a token added in the middle": live.toSpliced(1, 0, "clearcpuid=rdrand"),
  "a token dropped": live.toSpliced(2, 1),
  "a token repeated": live.toSpliced(2, 0, "tsc=reliable"),
  "two tokens swapped": live.toSpliced(1, 2, live[2]!, live[1]!),
  "a verity table that does not panic": live.with(1, root.replace(" 1 panic_on_corruption", "")),
  "a verity table on another device": live.with(1, root.replaceAll("/dev/vda", "/dev/vdb")),
  "a writable root": live.with(1, root.replace(",ro,", ",rw,")),
  "an upper-case root hash": live.with(1, root.replace(/a1/g, "A1")),
  "a second table in the same token": live.with(1, root.replace(/"$/, ';x,,,rw,0 8 linear /dev/vdb 0"')),
};
/** Bytes that the kernel takes apart otherwise than JavaScript does, as the whole line. */
const line = live.join(" ");
const spellings: Record<string, string> = {
  "a quote that is never closed hides what follows": line.replace("tsc=reliable", 'tsc=reliable"'),
  "a quote that stands alone": `${line} "`,
  "a space of Unicode that is none to the kernel": line.replace(" --", "\u2003--"),
  "a no-break space, whose second byte alone is one to the kernel": line.replace(" --", "\u00a0--"),
  "a byte order mark at the end": `${line}\ufeff`,
};
const refused = Object.fromEntries(Object.entries(changes).map(([name, list]) => [name, list.join(" ")]));
for (const [name, changed] of Object.entries({ ...refused, ...spellings })) {
  test(`refused: ${name}`, () => {
    throws(() => checkCommandLine(changed, expected), { reason: "posture/command-line" });
  });
}

test("what holds for all interfaces is set for each of them", () => {
  const set = new Map(sysctlsFor(["all", "default", "eth0", "lo"]).map(({ key, value }) => [key, value]));
  for (const name of ["all", "default", "eth0", "lo"]) {
    equal(set.get(`net.ipv4.conf.${name}.accept_redirects`), "0");
    equal(set.get(`net.ipv4.conf.${name}.rp_filter`), "1");
  }
  equal(set.get("net.ipv4.ip_forward"), "0");
});
