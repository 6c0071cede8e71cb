// SPDX-License-Identifier: Apache-2.0
/** The root: one verified, read-only file system, and nothing that lasts. */
import {
  everyFile,
  image,
  inSource,
  kernel,
  live,
  noFiles,
  reasonsForNoCheck,
  rootCovered,
  without,
} from "../expect.ts";
import type { ImageFacts } from "../facts.ts";
import { valueOf } from "../kernel-config.ts";
import { group } from "./group.ts";

/** Of every image: SHA-256 of "caisson/verity/v1". */
const salt = "7d9cd139407bb3e9917cde1edf06add083322bd821a21cd44938889a6a9123ae";

const rootToken = (commandLine: readonly string[]) =>
  commandLine.find((token) => token.startsWith("dm-mod.create=")) ?? "";
const changeRoot = (copy: { commandLine: readonly string[] }, from: string | RegExp, to: string) => {
  copy.commandLine = copy.commandLine.map((token) =>
    token.startsWith("dm-mod.create=") ? token.replace(from, to) : token,
  );
};

/** Whether a disk outlives the machine. */
const hasPersistent = ({ app }: ImageFacts["guest"]): boolean =>
  Object.values(app.volumes).some(({ persistent }) => persistent !== undefined);

export const filesystem = group("file system", { decision: "depth", source: "design" }, [
  {
    id: "V01",
    title: "The kernel parses nothing of the disk before it is verified",
    why: "Geometry and salt come from the measured line and are the same for every image; there is no superblock.",
    source: "badaml",
    tests: ["packages/image/src/output/verity.test.ts"],
    static: [
      image(
        "blocks of 4096 bytes and the constant salt",
        ({ commandLine }) =>
          rootToken(commandLine).includes(" 4096 4096 ") && rootToken(commandLine).includes(` ${salt} `)
            ? undefined
            : rootToken(commandLine),
        (copy) => changeRoot(copy, " 4096 4096 ", " 512 4096 "),
      ),
    ],
    live: [
      live(
        "the constant salt",
        ({ commandLine }) => (commandLine.includes(` ${salt} `) ? undefined : "another"),
        (copy) => {
          copy.commandLine = copy.commandLine.replace(salt, "00");
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V02",
    title: "A wrong block is a panic",
    why: "Not an error code that a program may survive.",
    source: "linux",
    static: [
      image(
        "panic_on_corruption in the table",
        ({ commandLine }) =>
          rootToken(commandLine).includes(" 1 panic_on_corruption") ? undefined : rootToken(commandLine),
        (copy) => changeRoot(copy, " 1 panic_on_corruption", ""),
      ),
    ],
    live: [
      live(
        "panic_on_corruption in the table",
        ({ commandLine }) => (commandLine.includes(" 1 panic_on_corruption") ? undefined : "missing"),
        (copy) => {
          copy.commandLine = copy.commandLine.replace(" 1 panic_on_corruption", "");
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V03",
    title: "Only memory is writable, and holds no programs",
    why: "Nothing that an attacker writes can be executed in place or survive.",
    source: "oci",
    static: [
      image(
        "'ro' and 'rootfstype=erofs' on the command line",
        ({ commandLine }) =>
          commandLine.includes("ro") && commandLine.includes("rootfstype=erofs") ? undefined : "missing",
        (copy) => {
          copy.commandLine = copy.commandLine.map((token) => (token === "ro" ? "rw" : token));
        },
      ),
    ],
    live: [
      live(
        "the root is erofs and read-only",
        ({ mounts }) => {
          const root = mounts.find(({ target }) => target === "/");
          return root?.type === "erofs" && root.options.includes("ro")
            ? undefined
            : `${root?.type} ${root?.options.join(",")}`;
        },
        ({ mounts }) => {
          for (const mount of mounts) if (mount.target === "/") mount.options = ["rw"];
        },
      ),
      live(
        "every tmpfs is nosuid, nodev, noexec",
        ({ mounts }) =>
          mounts.find(
            ({ type, options }) =>
              type === "tmpfs" && !["nosuid", "nodev", "noexec"].every((o) => options.includes(o)),
          )?.target,
        ({ mounts }) => {
          mounts.push({ source: "tmpfs", target: "/var", type: "tmpfs", options: ["rw"] });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V04",
    title: "The smallest file system format",
    why: "No compression, attributes or second devices: each is a parser that is not there.",
    source: "badaml",
    tests: ["packages/image/src/output/erofs.test.ts"],
    static: [
      image(
        "no incompatible feature of EROFS",
        ({ root }) =>
          root.incompatibleFeatures === 0 ? undefined : `0x${root.incompatibleFeatures.toString(16)}`,
        ({ root }) => {
          root.incompatibleFeatures = 1;
        },
      ),
      ...without("EROFS_FS_ZIP", "EROFS_FS_XATTR", "EROFS_FS_BACKED_BY_FILE").static,
    ],
    live: without("EROFS_FS_ZIP", "EROFS_FS_XATTR").live,
    remote: [rootCovered],
  },
  {
    id: "V05",
    title: "No volume that outlives the machine",
    why: "What is not stored cannot be read, altered or rolled back by the host.",
    source: "dstack",
    volumes: {
      reason: "encrypted, checked and anchored (V15, V16)",
      kinds: ["static", "live"],
    },
    ...without("DM_CRYPT", "DM_INTEGRITY", "DM_SNAPSHOT", "BLK_DEV_LOOP", "BLK_DEV_NBD"),
    live: [
      live(
        "every block device is read-only",
        ({ blockDevices }) => blockDevices.find(({ readOnly }) => !readOnly)?.name,
        ({ blockDevices }) => {
          blockDevices.push({ name: "vdc", readOnly: false });
        },
      ),
    ],
  },
  {
    id: "V09",
    title: "Secrets are files for one reader, never arguments",
    why: "Arguments and environments are visible to others.",
    source: "dstack",
    static: inSource("packages/guest/src/stages/app.ts"),
    live: [
      live(
        "the key file has mode 0400 and belongs to no root",
        ({ files }) => {
          const key = files.find(({ path }) => path === "/run/caisson/app-key");
          return key === undefined || (key.mode === 0o400 && key.uid !== 0)
            ? undefined
            : `mode ${key.mode.toString(8)}, uid ${key.uid}`;
        },
        ({ files }) => {
          files.push({ path: "/run/caisson/app-key", mode: 0o644, uid: 0, size: 0 });
          files.splice(0, files.length - 1);
        },
      ),
      live(
        "the directory of secrets and records is root's, and not listable",
        ({ files }) => {
          const folder = files.find(({ path }) => path === "/run/caisson");
          return folder !== undefined && folder.uid === 0 && (folder.mode & 0o066) === 0
            ? undefined
            : `mode ${folder?.mode.toString(8)}`;
        },
        ({ files }) => {
          for (const file of files) if (file.path === "/run/caisson") file.mode = 0o777;
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V10",
    title: "No device manager, no mounts by name",
    why: "Links such as /dev/disk/by-label are what the host writes on its disks.",
    source: "systemd",
    static: [
      noFiles(
        "no udev and no fstab",
        /(\/udev|\/mdev|\/etc\/fstab)/,
        "/usr/lib/udev/rules.d/60-persistent-storage.rules",
      ),
    ],
    live: [
      live(
        "nothing under /dev/disk",
        ({ deviceNodes }) => deviceNodes.find((name) => name.startsWith("disk/")),
        ({ deviceNodes }) => {
          deviceNodes.push("disk/by-label/root");
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V11",
    title: "No setuid, no file capabilities",
    why: "No file makes its caller more than it was.",
    decision: "least",
    source: "oci",
    static: [
      everyFile(
        "no setuid, setgid or sticky bit on a file",
        ({ kind, mode }) => kind !== "file" || (mode & 0o7000) === 0,
        { mode: 0o4755 },
      ),
      image(
        "no extended attributes, so no file capabilities",
        ({ root }) => (root.extendedAttributes ? "there are some" : undefined),
        ({ root }) => {
          root.extendedAttributes = true;
        },
      ),
    ],
    live: [
      live(
        "every writable mount is nosuid",
        ({ mounts }) =>
          mounts.find(({ options }) => options.includes("rw") && !options.includes("nosuid"))?.target,
        ({ mounts }) => {
          mounts.push({ source: "none", target: "/mnt", type: "ramfs", options: ["rw"] });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V12",
    title: "The hash tree fits the data",
    why: "Otherwise the image panics at the first read of a wrong block: better found here.",
    static: [
      image(
        "rootfs.img is its data followed by the tree over it",
        ({ root }) => (root.treeIntact ? undefined : "the tree differs"),
        ({ root }) => {
          root.treeIntact = false;
        },
      ),
    ],
    live: "the kernel checks every block that is read (V02)",
    remote: [rootCovered],
  },
  {
    id: "V13",
    title: "Everything belongs to root, and only its owner may write",
    why: "The image is read-only; modes that say otherwise would be a mistake somewhere.",
    decision: "least",
    static: [
      everyFile(
        "owned by root outside of the application",
        ({ uid, gid }, path) => path.startsWith("/app/") || (uid === 0 && gid === 0),
        { uid: 1000 },
      ),
      everyFile(
        "not writable for others",
        ({ kind, mode }, path) => kind === "symlink" || path.startsWith("/app/") || (mode & 0o022) === 0,
        { mode: 0o666 },
      ),
    ],
    live: reasonsForNoCheck.verifiedRoot,
    remote: [rootCovered],
  },
  {
    id: "V14",
    title: "Device nodes come from the kernel alone",
    why: "devtmpfs is mounted without set-uid programs; no node is in the image.",
    ...kernel({ DEVTMPFS: "y", DEVTMPFS_SAFE: "y" }),
    static: [
      ...kernel({ DEVTMPFS: "y", DEVTMPFS_SAFE: "y" }).static,
      everyFile("files, directories and links only", ({ kind }) => kind !== "other", { kind: "other" }),
    ],
  },
  {
    id: "V15",
    title: "A persistent volume is encrypted, and everything on it has a checksum",
    why: "The host can neither read it nor hand out something else; no log of single fsyncs, no discard, no repair.",
    decision: "depth",
    tests: ["packages/guest/src/volumes/btrfs.test.ts", "test/attacks/volumes.test.ts"],
    static: [
      image(
        "dm-crypt with AES-XTS, and btrfs without access control lists, where there is one",
        ({ guest, kernel: { config } }) => {
          if (!hasPersistent(guest)) return undefined;
          const lacking = ["DM_CRYPT", "CRYPTO_XTS", "CRYPTO_AES", "BTRFS_FS"].filter(
            (symbol) => valueOf(config, symbol) !== "y",
          );
          const extra = ["BTRFS_FS_POSIX_ACL", "BTRFS_EXPERIMENTAL", "DM_INTEGRITY", "KEYS"].filter(
            (symbol) => valueOf(config, symbol) === "y",
          );
          return lacking.length + extra.length === 0 ? undefined : [...lacking, ...extra].join(", ");
        },
        ({ guest }) => {
          guest.app.volumes["data"] = { size: 2 ** 28, persistent: { kmsAway: "continue" } };
        },
      ),
    ],
    live: [
      live(
        "every btrfs is mounted with notreelog, nosuid, nodev, noexec, and nothing that skips checksums",
        ({ mounts }) =>
          mounts.find(
            ({ type, options }) =>
              type === "btrfs" &&
              (!["notreelog", "nosuid", "nodev", "noexec"].every((one) => options.includes(one)) ||
                options.some((one) =>
                  /^(?:nodatasum|nodatacow|discard.*|rescue=.*|usebackuproot)$/.test(one),
                )),
          )?.target,
        ({ mounts }) => {
          mounts.push({ source: "/dev/dm-1", target: "/run/x", type: "btrfs", options: ["rw", "nodatacow"] });
        },
      ),
    ],
    remote: [rootCovered],
  },
  {
    id: "V16",
    title: "A persistent volume is not turned back, mixed or replaced",
    why: "The KMS numbers its openings and keeps the newest generation; what is older, or of another line, is refused.",
    decision: "depth",
    tests: [
      "test/attacks/volumes.test.ts",
      "packages/kms/src/volumes/model.test.ts",
      "packages/kms/src/volumes/rules.test.ts",
      "packages/guest/src/volumes/prepare.test.ts",
    ],
    static: [
      image(
        "a service of an image with one cannot take a file's checksums away",
        ({ guest, runtime }) => {
          if (!hasPersistent(guest)) return undefined;
          const open = runtime.linux.seccomp.syscalls.some(
            ({ names, action, args }) =>
              names.includes("ioctl") && action === "SCMP_ACT_ALLOW" && args === undefined,
          );
          return open ? "every ioctl is allowed" : undefined;
        },
        ({ guest }) => {
          guest.app.volumes["data"] = { size: 2 ** 28, persistent: { kmsAway: "continue" } };
        },
      ),
    ],
    live: reasonsForNoCheck.behaviour,
    remote: reasonsForNoCheck.kms,
  },
]);
