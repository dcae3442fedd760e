/** What is selected in a pane, and which row the keys act on. Pure: a pane gives its rows with each step. */

import { EntryKind } from "../gen/wherry/type/v1/entry_pb";
import { isSelectable, type Row } from "./row";

export interface Selection {
  /** Keys of the selected rows. */
  readonly keys: ReadonlySet<string>;
  /** Key of the row that the keys act on. */
  readonly active: string | undefined;
  /** Key of the row that a range with Shift begins at. */
  readonly anchor: string | undefined;
}

export const NOTHING: Selection = { keys: new Set(), active: undefined, anchor: undefined };

/** `index` is the row that is meant, `from` the one that was active before. */
export type SelectionStep =
  /** A click on a row: it alone; with Ctrl it is added or taken away, with Shift everything from the anchor to it. */
  | {
      readonly kind: "click";
      readonly index: number;
      readonly from: number;
      readonly ctrl: boolean;
      readonly shift: boolean;
    }
  /** A click on a row's check box: it is added or taken away, with Shift everything from the anchor on is added. */
  | { readonly kind: "check"; readonly index: number; readonly from: number; readonly shift: boolean }
  /** The arrow keys and their like; with Shift the range grows, with Ctrl only the mark moves. */
  | {
      readonly kind: "move";
      readonly index: number;
      readonly from: number;
      readonly ctrl: boolean;
      readonly shift: boolean;
    }
  | { readonly kind: "all" }
  | { readonly kind: "none" }
  /** The rows have changed: what is no longer there is no longer selected. */
  | { readonly kind: "prune" };

export function select(state: Selection, step: SelectionStep, rows: readonly Row[]): Selection {
  switch (step.kind) {
    case "all":
      return { ...state, keys: keysOf(rows) };
    case "none":
      return state.keys.size === 0 ? state : { ...state, keys: NOTHING.keys };
    case "prune":
      return prune(state, rows);
    default:
      return pointed(state, step, rows);
  }
}

function pointed(
  state: Selection,
  step: Extract<SelectionStep, { readonly index: number }>,
  rows: readonly Row[],
): Selection {
  const row = rows[step.index];
  if (!row) return state;
  if (step.shift) {
    const begin = indexOf(rows, state.anchor) ?? step.from;
    const range = keysOf(rangeOf(rows, begin, step.index));
    const keys = step.kind === "check" ? new Set([...state.keys, ...range]) : range;
    return { keys, active: row.key, anchor: rows[begin]?.key ?? row.key };
  }
  if (step.kind === "move") return { keys: state.keys, active: row.key, anchor: step.ctrl ? state.anchor : row.key };
  const marked = { active: row.key, anchor: row.key };
  if (!isSelectable(row)) return { ...marked, keys: step.kind === "click" && !step.ctrl ? NOTHING.keys : state.keys };
  if (step.kind === "click" && !step.ctrl) return { ...marked, keys: new Set([row.key]) };
  const keys = new Set(state.keys);
  if (!keys.delete(row.key)) keys.add(row.key);
  return { ...marked, keys };
}

function prune(state: Selection, rows: readonly Row[]): Selection {
  if (state.keys.size === 0) return state;
  const there = keysOf(rows);
  const kept = new Set([...state.keys].filter((key) => there.has(key)));
  return kept.size === state.keys.size ? state : { ...state, keys: kept };
}

/** Where a row is now, by its key; undefined where it is not. `hint` is tried first. */
export function indexOf(rows: readonly Row[], key: string | undefined, hint = 0): number | undefined {
  if (key === undefined) return undefined;
  if (rows[hint]?.key === key) return hint;
  const index = rows.findIndex((row) => row.key === key);
  return index < 0 ? undefined : index;
}

/** The selected rows in the order that they are shown in. */
export function selectedRows(selection: Selection, rows: readonly Row[]): readonly Row[] {
  if (selection.keys.size === 0) return [];
  return rows.filter((row) => selection.keys.has(row.key) && isSelectable(row));
}

/** Bytes of the files among the rows; what folders hold is not known. */
export function bytesOf(rows: readonly Row[]): number {
  return rows.reduce((sum, row) => sum + (row.kind === EntryKind.FILE ? row.sizeBytes : 0), 0);
}

export function selectableCount(rows: readonly Row[]): number {
  return rows.reduce((count, row) => count + Number(isSelectable(row)), 0);
}

function keysOf(rows: readonly Row[]): ReadonlySet<string> {
  const keys = new Set<string>();
  for (const row of rows) if (isSelectable(row)) keys.add(row.key);
  return keys;
}

function rangeOf(rows: readonly Row[], from: number, to: number): readonly Row[] {
  return rows.slice(Math.min(from, to), Math.max(from, to) + 1);
}
