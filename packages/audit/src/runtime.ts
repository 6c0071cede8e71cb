// SPDX-License-Identifier: Apache-2.0
/** What crun is told of what runs in an image, by the code that PID 1 makes it with. Pure. */
import { join } from "node:path";
import { channelSocket, frontName, frontService } from "@caisson/guest/front";
import { type Place, placeOf } from "@caisson/guest/place";
import { runtimeConfig } from "@caisson/guest/sandbox";
import { servingProfile } from "@caisson/guest/seccomp";
import { persistentVolumes, type Service } from "@caisson/protocol/guest-config";
import type { ImageFacts, RuntimeFacts } from "./facts.ts";

/** What PID 1 may share with an application at most (packages/guest/src/stages/app.ts). */
const shares = [
  { source: "/run/caisson/app.sock", destination: "/run/caisson.sock", writable: true },
  { source: "/run/caisson/app-key", destination: "/run/secrets/caisson-key" },
  { source: "/run/resolv.conf", destination: "/etc/resolv.conf" },
];

/** What crun is told of the first service; of the others it differs in names and numbers alone. */
export function serviceRuntime({ app }: ImageFacts["guest"]): RuntimeFacts {
  const [name, service] = Object.entries(app.services)[0]!;
  const onPersistent = persistentVolumes(app).length > 0;
  if (service.isolation === "plain") return runtimeConfig(service, shares, { onPersistent }) as RuntimeFacts;
  const place = placeOf(name, service);
  const { socket, key } = place;
  const own = [
    ...(service.socket ? [{ source: socket, destination: "/run/caisson.sock", writable: true }] : []),
    ...(service.key ? [{ source: key, destination: "/run/secrets/caisson-key" }] : []),
    ...(service.secrets ?? []).map(({ name }) => ({
      source: `${key}-${name}`,
      destination: `/run/secrets/${name}`,
    })),
  ];
  const surroundings = surroundingsOf(place, service);
  return runtimeConfig(service, own, { surroundings, onPersistent }) as RuntimeFacts;
}

/** What crun is told of the front, where the description has one. */
export function frontRuntime({ app }: ImageFacts["guest"]): Pick<ImageFacts, "front"> {
  if (app.front === undefined) return {};
  const service = frontService(app.front);
  const place = placeOf(frontName, service);
  const surroundings = surroundingsOf(place, service);
  const onPersistent = persistentVolumes(app).length > 0;
  const told = runtimeConfig(service, [channelSocket(place)], {
    surroundings,
    onPersistent,
    seccomp: servingProfile,
  });
  return { front: told as RuntimeFacts };
}

/** What PID 1 makes for a contained service before it starts. */
const surroundingsOf = ({ directory, root }: Place, { mounts }: Service) => ({
  root,
  userNamespace: "/proc/1/fd/0",
  networkNamespace: "/proc/1/fd/1",
  volumes: mounts.map(({ target, readOnly }, index) => ({
    target,
    readOnly,
    source: join(directory, `volume-${index}`),
  })),
  files: ["hosts", "resolv.conf", "hostname"].map((file) => ({
    source: join(directory, file),
    target: `/etc/${file}`,
  })),
});
