// SPDX-License-Identifier: Apache-2.0
/**
 * The first process of WebKit's namespaces (`webkit.ts`): makes its root out of unpacked packages, then runs its driver
 * there.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [packages = "", place = "", port = ""] = process.argv.slice(2);
const root = join(place, "root");
const display = ":77";
const libraries = "/usr/lib/x86_64-linux-gnu";

const run = (program: string, ...args: string[]): void =>
  void execFileSync(program, args, { stdio: ["ignore", "inherit", "inherit"] });
const inside = (...words: string[]): void => run("chroot", root, ...words);

run("mount", "--make-rprivate", "/");
// An overlay of an overlay is not allowed: changes are in memory.
run("mount", "-t", "tmpfs", "tmpfs", root);
run("cp", "-a", `${packages}/.`, root);
for (const name of ["proc", "dev", "tmp", "root", "etc", "run/user"]) {
  mkdirSync(join(root, name), { recursive: true });
}
run("mount", "-t", "proc", "proc", join(root, "proc"));
run("mount", "--rbind", "/dev", join(root, "dev"));
for (const name of ["bin", "lib", "lib64"]) {
  if (!existsSync(join(root, name))) symlinkSync(`usr/${name}`, join(root, name));
}
writeFileSync(join(root, "etc/machine-id"), `${"0123456789abcdef".repeat(2)}\n`);
writeFileSync(join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\n");
writeFileSync(join(root, "etc/hosts"), "127.0.0.1 localhost\n");
// What the packages' own scripts would do.
inside(`${libraries}/glib-2.0/glib-compile-schemas`, "/usr/share/glib-2.0/schemas");
inside(`${libraries}/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders`, "--update-cache");
inside("/usr/bin/update-mime-database", "/usr/share/mime");

const env = {
  PATH: "/usr/bin:/usr/sbin:/bin:/sbin",
  HOME: "/root",
  XDG_RUNTIME_DIR: "/tmp",
  DISPLAY: display,
  GDK_BACKEND: "x11",
  LIBGL_ALWAYS_SOFTWARE: "1",
  WEBKIT_DISABLE_COMPOSITING_MODE: "1",
  // It is in namespaces of its own already, which its own would have to be made in.
  WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1",
};
const start = (...words: string[]) =>
  spawn("chroot", [root, ...words], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
  });
start("/usr/bin/Xvfb", display, "-screen", "0", "1280x900x24", "-nolisten", "tcp");
start("/usr/bin/dbus-run-session", "--", "/usr/bin/WebKitWebDriver", `--port=${port}`, "--host=127.0.0.1");
