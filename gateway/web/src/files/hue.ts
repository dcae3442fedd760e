/** A site's colour: one of eight fixed hues, bound to the site and not to the side that it is shown on. */

const HUES = 8;

/** The number of a site's hue, 0 to 7, the same everywhere and always (FNV-1a of the name). */
export function hueOf(site: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < site.length; at++) {
    hash ^= site.charCodeAt(at);
    hash = Math.imul(hash, 0x01000193);
  }
  return ((hash ^ (hash >>> 15)) >>> 0) % HUES;
}
