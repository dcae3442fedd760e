// Which directory each pane shows lives in the page's address, so that a view can be kept, shared and loaded again.

import { base64Url, fromBase64Url } from "./bytes";
import { DEFAULT_PATH, pathKey, pathOf, pathOfBytes, type SitePath } from "./path";

export type Side = "left" | "right";

export const SIDES: readonly Side[] = ["left", "right"];

export interface Place {
  /** `sites/{site}`. */
  readonly site: string;
  readonly path: SitePath;
}

export function otherSide(side: Side): Side {
  return side === "left" ? "right" : "left";
}

export function placeKey(place: Place): string {
  return `${place.site}\n${pathKey(place.path)}`;
}

const SITE_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** The place that an address gives a pane; undefined where it names none. */
export function placeIn(parameters: URLSearchParams, side: Side): Place | undefined {
  const id = parameters.get(side);
  if (!id || !SITE_ID.test(id)) return undefined;
  const raw = parameters.get(`${side}-raw`);
  const bytes = raw ? fromBase64Url(raw) : undefined;
  const text = parameters.get(`${side}-path`) ?? "";
  const path = bytes ? pathOfBytes(bytes) : text === "" ? DEFAULT_PATH : pathOf(text);
  return { site: `sites/${id}`, path };
}

/** The address's parameters with another place for a pane. */
export function withPlace(parameters: URLSearchParams, side: Side, place: Place): URLSearchParams {
  const next = new URLSearchParams(parameters);
  next.set(side, siteId(place.site));
  next.delete(`${side}-path`);
  next.delete(`${side}-raw`);
  if (place.path.raw) next.set(`${side}-raw`, base64Url(place.path.raw));
  else if (place.path.text !== "") next.set(`${side}-path`, place.path.text);
  return next;
}

/** The id in a site's resource name. */
export function siteId(site: string): string {
  return site.replace(/^sites\//, "");
}
