// Paths at a site. `text` is what people read; where a path is not valid UTF-8, `raw` decides and `text` only shows it.

import { concat, hex, shownBytes, splitAtSlashes, textOf, utf8 } from "./bytes";

export interface SitePath {
  /** Absolute; empty means the site's default path. */
  readonly text: string;
  readonly raw?: Uint8Array | undefined;
}

/** The name of a directory entry, in the same two forms. */
export interface EntryName {
  readonly name: string;
  readonly rawName?: Uint8Array | undefined;
}

export interface Crumb {
  readonly label: string;
  readonly path: SitePath;
}

export const DEFAULT_PATH: SitePath = { text: "" };
export const ROOT: SitePath = { text: "/" };

const SLASH = utf8("/");

/** A path that was given as text. */
export function pathOf(text: string): SitePath {
  return { text };
}

/** A path that was given as bytes; they are kept only where text cannot stand for them. */
export function pathOfBytes(bytes: Uint8Array): SitePath {
  const text = textOf(bytes);
  return text === undefined ? { text: shownBytes(bytes), raw: bytes } : { text };
}

export function pathBytes(path: SitePath): Uint8Array {
  return path.raw ?? utf8(path.text);
}

/** Text that two paths share exactly when they are the same path. (NUL is in no path.) */
export function pathKey(path: SitePath): string {
  return path.raw ? `\0${hex(path.raw)}` : path.text;
}

/** The same for names of entries. */
export function nameKey(entry: EntryName): string {
  return entry.rawName?.length ? `\0${hex(entry.rawName)}` : entry.name;
}

export function samePath(one: SitePath, other: SitePath): boolean {
  return pathKey(one) === pathKey(other);
}

/** The path of an entry of a directory. */
export function childPath(directory: SitePath, entry: EntryName): SitePath {
  if (directory.raw || entry.rawName?.length) {
    const name = entry.rawName?.length ? entry.rawName : utf8(entry.name);
    const above = splitAtSlashes(pathBytes(directory));
    return pathOfBytes(absolute([...above, name]));
  }
  return { text: `${directory.text === "/" ? "" : directory.text}/${entry.name}` };
}

/** The directory above; the root is above itself. */
export function parentPath(path: SitePath): SitePath {
  return pathOfBytes(absolute(splitAtSlashes(pathBytes(path)).slice(0, -1)));
}

/** The last part of a path, to show; `/` for the root. */
export function lastName(path: SitePath): string {
  const last = splitAtSlashes(pathBytes(path)).at(-1);
  return last ? shownBytes(last) : "/";
}

/** The last part of a path as the name of an entry. */
export function lastEntryName(path: SitePath): EntryName {
  const last = splitAtSlashes(pathBytes(path)).at(-1) ?? new Uint8Array();
  const name = textOf(last);
  return name === undefined ? { name: shownBytes(last), rawName: last } : { name };
}

/** All directories down to a path, without the root. */
export function crumbsOf(path: SitePath): Crumb[] {
  const parts = splitAtSlashes(pathBytes(path));
  return parts.map((part, index) => ({
    label: shownBytes(part),
    path: pathOfBytes(absolute(parts.slice(0, index + 1))),
  }));
}

/** Whether a path is the directory or lies in it. */
export function isWithin(path: SitePath, directory: SitePath): boolean {
  const inner = splitAtSlashes(pathBytes(path));
  const outer = splitAtSlashes(pathBytes(directory));
  return (
    outer.length <= inner.length && outer.every((part, index) => hex(part) === hex(inner[index] ?? part.subarray(0, 0)))
  );
}

function absolute(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 0 ? SLASH : concat(...parts.flatMap((part) => [SLASH, part]));
}
