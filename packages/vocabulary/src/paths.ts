// SPDX-License-Identifier: Apache-2.0
/** Where things are: in a guest, and at an application that lets itself be asked. */

/** The measured configuration, in the verity root. */
export const guestConfigPath = "/etc/caisson/guest.json";

/** What an application serves that passes on its guest's evidence. */
export const evidencePath = "/.well-known/caisson/evidence";
/** The same for what the guest sees of itself; development images only. */
export const livePath = "/.well-known/caisson/live";
