// SPDX-License-Identifier: Apache-2.0
/** Where things are: in a guest, and at an application that lets itself be asked. */

/** The measured configuration, in the verity root. */
export const guestConfigPath = "/etc/caisson/guest.json";

/** What an application serves that passes on its guest's evidence, and a front by itself: of the channel. */
export const evidencePath = "/.well-known/caisson/evidence";
/** What a front serves besides: its key configuration, and where sealed requests go. */
export const channelKeysPath = "/.well-known/caisson/keys";
export const channelTunnelPath = "/.well-known/caisson/tunnel";
/** The same for what the guest sees of itself; development images only. */
export const livePath = "/.well-known/caisson/live";
