// SPDX-License-Identifier: Apache-2.0
/** What the kernel must be able to do (decision D1): judged by its release, because these are fixes and features. */
import { covered, image, live } from "../expect.ts";
import { compareReleases } from "../releases.ts";
import { group } from "./group.ts";

const since = (release: string) => ({
  static: [
    image(
      `release ${release} or newer`,
      ({ kernel }) => (compareReleases(kernel.release, release) >= 0 ? undefined : kernel.release),
      (copy) => {
        copy.kernel.release = "5.15.1";
      },
    ),
  ],
  live: [
    live(
      `release ${release} or newer`,
      (facts) => (compareReleases(facts.release, release) >= 0 ? undefined : facts.release),
      (copy) => {
        copy.release = "5.15.1";
      },
    ),
  ],
  remote: [covered("rtmr1", "the kernel's EFI_BOOT_SERVICES_APPLICATION event")],
});

export const capabilities = group("kernel attack surface", { decision: "D1", source: "linux" }, [
  {
    id: "K42",
    title: "Registers can be extended by an upstream interface",
    why: "TSM measurement registers came with 6.16; before, a driver of one's own was needed.",
    ...since("6.16"),
  },
  {
    id: "K43",
    title: "A quote's length is checked",
    why: "Until commit c3fd16c3b98e (7.0-rc6) the host chose how much memory the driver copied.",
    ...since("7.0"),
  },
  {
    id: "K44",
    title: "The EFI stub measures the command line and the initrd",
    why: "Since the 6.9 cycle it uses the confidential-computing measurement protocol.",
    ...since("6.9"),
  },
  {
    id: "K45",
    title: "Quotes without a device of the host's",
    why: "configfs-tsm (6.7) needs neither vsock nor an agent.",
    ...since("6.7"),
  },
]);
