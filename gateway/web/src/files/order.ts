/** Which rows a pane shows, and in which order. */

import { isDirectory, type Row } from "./row";

export type SortColumn = "name" | "size" | "modified";

export interface Order {
  readonly column: SortColumn;
  readonly ascending: boolean;
}

export const BY_NAME: Order = { column: "name", ascending: true };

/** What a click on a column's head leads to: the other direction, or that column with what one looks for first. */
export function orderAfterClick(order: Order, column: SortColumn): Order {
  if (order.column === column) return { column, ascending: !order.ascending };
  return { column, ascending: column === "name" };
}

/** Compares rows: directories first whatever the order, equals by name. */
export function comparator(order: Order): (one: Row, other: Row) => number {
  const sign = order.ascending ? 1 : -1;
  if (order.column === "name") return (one, other) => directoriesFirst(one, other) || sign * byName(one, other);
  const value: (row: Row) => number = order.column === "size" ? sizeOf : (row) => row.modifiedMs;
  return (one, other) => directoriesFirst(one, other) || sign * (value(one) - value(other)) || byName(one, other);
}

/** A directory's own size says nothing; directories stay in the order of their names. */
function sizeOf(row: Row): number {
  return isDirectory(row) ? 0 : row.sizeBytes;
}

function directoriesFirst(one: Row, other: Row): number {
  return Number(isDirectory(other)) - Number(isDirectory(one));
}

function byName(one: Row, other: Row): number {
  return (
    compareText(one.sortKey, other.sortKey) || compareText(one.name, other.name) || compareText(one.key, other.key)
  );
}

function compareText(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Tests names against what stands in the filter box: a part of the name, or a pattern if it holds `*` or `?`. */
export function nameFilter(wanted: string): (name: string) => boolean {
  const text = wanted.trim().toLowerCase();
  if (text === "") return () => true;
  if (!/[*?]/.test(text)) return (name) => name.toLowerCase().includes(text);
  const pattern = text
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  const whole = new RegExp(`^${pattern}$`, "s");
  return (name) => whole.test(name.toLowerCase());
}

/**
 * The rows of a growing listing, filtered and in order. Each batch is sorted by itself and merged, so that a listing of
 * 100,000 entries is not sorted anew twenty times.
 */
export class RowView {
  readonly #compare: (one: Row, other: Row) => number;
  readonly #matches: (name: string) => boolean;
  readonly #withHidden: boolean;
  #source: readonly Row[] | undefined;
  #taken = 0;
  #rows: readonly Row[] = [];

  constructor(order: Order, filter: string, withHidden: boolean) {
    this.#compare = comparator(order);
    this.#matches = nameFilter(filter);
    this.#withHidden = withHidden;
  }

  /** The first `count` of `source` as they are shown. The answer is the same array while nothing is new. */
  of(source: readonly Row[], count: number): readonly Row[] {
    if (source !== this.#source || count < this.#taken) {
      this.#source = source;
      this.#taken = 0;
      this.#rows = [];
    }
    if (count > this.#taken) {
      const fresh = source.slice(this.#taken, count).filter((row) => this.#shows(row));
      this.#taken = count;
      if (fresh.length > 0) this.#rows = merge(this.#rows, fresh.sort(this.#compare), this.#compare);
    }
    return this.#rows;
  }

  #shows(row: Row): boolean {
    return (this.#withHidden || !row.name.startsWith(".")) && this.#matches(row.name);
  }
}

/** Merges two sorted arrays. */
export function merge<T extends object>(
  first: readonly T[],
  second: readonly T[],
  compare: (one: T, other: T) => number,
): T[] {
  if (first.length === 0) return [...second];
  const merged: T[] = [];
  let taken = 0;
  for (const item of second) {
    for (let next = first[taken]; next !== undefined && compare(next, item) <= 0; next = first[taken]) {
      merged.push(next);
      taken += 1;
    }
    merged.push(item);
  }
  return merged.concat(first.slice(taken));
}
