/** A pane's listing, and the rows that it shows of it. */
import { useDeferredValue, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { files } from "../api";
import { touches } from "../transfers/destinations";
import { jobsNow, onJobEnded, useJobsDerived } from "../transfers/live";
import { fractionOf } from "../transfers/model";
import { isEnded, type Jobs, type WatchedJob } from "../transfers/store";
import { Listing, type ListingState } from "./listing";
import { type Order, RowView } from "./order";
import { pathKey } from "./path";
import { type Place, placeKey } from "./places";
import { arrivingRow, type Row } from "./row";

export interface PaneListing {
  readonly listing: Listing;
  readonly state: ListingState;
  /** Where it is, with the absolute path; undefined until the site has told it. */
  readonly place: Place | undefined;
}

/**
 * Lists a place for as long as it is looked at. What a job writes there is seen when the job has ended.
 *
 * @param wanted whether to ask at all: not before one has signed in at the site.
 */
export function useListing(place: Place, wanted: boolean): PaneListing {
  const [listing, setListing] = useState(() => new Listing(files, place));
  // Adjusted while rendering, not in an effect, so that no other directory's rows are ever shown under this path.
  const current = isListingOf(listing, place) ? listing : new Listing(files, place);
  if (current !== listing) setListing(current);
  const state = useSyncExternalStore(current.subscribe, current.read);

  useEffect(() => {
    if (!wanted) return;
    current.start();
    return () => current.stop();
  }, [current, wanted]);

  useEffect(
    () =>
      onJobEnded(({ job, arrivals }) => {
        const at = placeOf(current);
        if (!at || !touches(job, at)) return;
        current.refresh(arrivingRows({ job, arrivals, samples: [] }, placeKey(at)));
      }),
    [current],
  );

  const { site } = current.place;
  const { path } = state;
  const there = useMemo(() => path && { site, path }, [site, path]);
  return { listing: current, state, place: there };
}

function placeOf(listing: Listing): Place | undefined {
  const path = listing.read().path;
  return path && { site: listing.place.site, path };
}

/** Whether this is the listing of a place, under the path that was asked for or the one that the site made of it. */
function isListingOf(listing: Listing, place: Place): boolean {
  if (listing.place.site !== place.site) return false;
  const { path } = listing.read();
  return (
    pathKey(listing.place.path) === pathKey(place.path) || (path !== undefined && pathKey(path) === pathKey(place.path))
  );
}

export interface Shown {
  readonly order: Order;
  readonly filter: string;
  readonly withHidden: boolean;
}

/** The rows as they are shown: filtered and in order, and before them what is still arriving. */
export function useShownRows({ state, place }: PaneListing, { order, filter, withHidden }: Shown): readonly Row[] {
  const wanted = useDeferredValue(filter);
  const view = useMemo(() => new RowView(order, wanted, withHidden), [order, wanted, withHidden]);
  const rows = view.of(state.rows, state.count);
  const key = place && placeKey(place);
  // Compared as text: progress alone, which changes several times a second, makes no new rows.
  const arriving = useJobsDerived((jobs) => (key === undefined ? "" : arrivingKey(jobs, key)));
  const coming = useMemo(() => {
    if (key === undefined || wanted !== "") return [];
    const open = arriving === "" ? [] : jobsNow().list.flatMap((watched) => openArrivals(watched, key));
    return missingIn(state.rows, state.count, [...open, ...state.expected].slice(0, MOST_ARRIVING));
  }, [key, wanted, arriving, state.expected, state.rows, state.count]);
  return useMemo(() => (coming.length === 0 ? rows : [...coming, ...rows]), [coming, rows]);
}

/** So many names that are still to come are shown at most. */
const MOST_ARRIVING = 200;

function arrivingKey(jobs: Jobs, place: string): string {
  return jobs.list
    .filter(({ job, arrivals }) => !isEnded(job) && arrivals.has(place))
    .map(({ job }) => job.name)
    .join(" ");
}

function openArrivals(watched: WatchedJob, place: string): readonly Row[] {
  return isEnded(watched.job) ? [] : arrivingRows(watched, place);
}

function arrivingRows({ job, arrivals }: WatchedJob, place: string): readonly Row[] {
  const names = arrivals.get(place) ?? [];
  const copy = job.operation.case === "copy" ? job.operation.value : undefined;
  const arrival = { job: job.name, from: copy?.items[0]?.source?.site ?? "", recursive: copy?.recursive ?? false };
  const isDirectory = names.length === 1 && (job.progress?.directoriesTotal ?? 0n) > 0n;
  return names.slice(0, MOST_ARRIVING).map(({ name, rawName }) => arrivingRow(name, rawName, isDirectory, arrival));
}

/** Those of `rows` that a listing does not have, each once. */
function missingIn(listed: readonly Row[], count: number, rows: readonly Row[]): readonly Row[] {
  const missing = new Map(rows.map((row) => [row.key, row]));
  for (let at = 0; at < count && missing.size > 0; at++) {
    const row = listed[at];
    if (row) missing.delete(row.key);
  }
  return [...missing.values()];
}

/** How far a job is, 0 to 1, in steps of a hundredth; 1 when it is no longer known. */
export function useFraction(job: string): number {
  return useJobsDerived((jobs) => {
    const watched = jobs.list.find((each) => each.job.name === job);
    return watched ? Math.floor(fractionOf(watched.job) * 100) / 100 : 1;
  });
}
