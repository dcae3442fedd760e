/** Where a job writes. Paths that are relative to a site's default path are left out: only the site knows what they are. */
import { type EntryName, isWithin, lastEntryName, parentPath, type SitePath } from "../files/path";
import { type Place, placeKey } from "../files/places";
import type { Job } from "../gen/wherry/queue/v1/job_service_pb";
import type { Location } from "../gen/wherry/type/v1/entry_pb";

/** The names that a copy makes, by the directory that they come to be in (`placeKey`). */
export type Arrivals = ReadonlyMap<string, readonly EntryName[]>;

export function arrivalsOf(job: Job): Arrivals {
  const arrivals = new Map<string, EntryName[]>();
  if (job.operation.case !== "copy") return arrivals;
  for (const { destination } of job.operation.value.items) {
    const place = placeOf(destination);
    if (!place) continue;
    const key = placeKey({ site: place.site, path: parentPath(place.path) });
    const names = arrivals.get(key) ?? [];
    names.push(lastEntryName(place.path));
    arrivals.set(key, names);
  }
  return arrivals;
}

/** Whether what a directory holds may be another when the job has ended. */
export function touches(job: Job, directory: Place): boolean {
  const shown = writtenBy(job);
  const hidden = Number(job.itemCount) > shown.length; // it may write anywhere at the sites of those that are shown
  return shown.some((written) => {
    if (written.site !== directory.site) return false;
    if (hidden) return true;
    const above = { site: written.site, path: parentPath(written.path) };
    return placeKey(above) === placeKey(directory) || isWithin(directory.path, written.path);
  });
}

function writtenBy({ operation }: Job): readonly Place[] {
  switch (operation.case) {
    case "copy":
      return places(operation.value.items.map((item) => item.destination));
    case "remove":
      return places(operation.value.targets);
    case "makeDirectory":
      return places([operation.value.target]);
    case "rename":
      return places([operation.value.source, operation.value.destination]);
    default:
      return [];
  }
}

function places(locations: readonly (Location | undefined)[]): readonly Place[] {
  return locations.map(placeOf).filter((place) => place !== undefined);
}

function placeOf(location: Location | undefined): Place | undefined {
  if (!location) return undefined;
  const path: SitePath =
    location.rawPath.length > 0 ? { text: location.path, raw: location.rawPath } : { text: location.path };
  return path.raw || path.text.startsWith("/") ? { site: location.site, path } : undefined;
}
