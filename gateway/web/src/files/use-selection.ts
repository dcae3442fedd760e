/** What is selected in a pane and which row is active, kept true to the rows that it shows. */
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { Row } from "./row";
import {
  bytesOf,
  indexOf,
  NOTHING,
  type Selection,
  type SelectionStep,
  select,
  selectableCount,
  selectedRows,
} from "./selection";

export interface PaneSelection {
  readonly rows: readonly Row[];
  readonly selection: Selection;
  readonly activeIndex: number;
  readonly selected: readonly Row[];
  readonly selectedBytes: number;
  readonly allSelected: boolean;
  /** Never changes. */
  readonly step: (step: SelectionStep) => void;
}

/**
 * @param listed another value where the directory was read anew.
 * @param active key of the row that is active to begin with.
 */
export function usePaneSelection(rows: readonly Row[], listed: unknown, active: string | undefined): PaneSelection {
  const [selection, setSelection] = useState<Selection>({ ...NOTHING, active });
  const hint = useRef(0);
  const activeIndex =
    indexOf(rows, selection.active, hint.current) ?? Math.min(hint.current, Math.max(0, rows.length - 1));
  hint.current = activeIndex;
  const selected = useMemo(() => selectedRows(selection, rows), [selection, rows]);
  const selectedBytes = useMemo(() => bytesOf(selected), [selected]);
  const allSelected = useMemo(() => selected.length > 0 && selected.length === selectableCount(rows), [selected, rows]);

  const shown = useRef(rows);
  shown.current = rows;
  const step = useCallback((next: SelectionStep) => {
    const { current } = shown;
    setSelection((before) => select(before, next, current));
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the change itself is the occasion
  useEffect(() => step({ kind: "prune" }), [listed, step]);

  return { rows, selection, activeIndex, selected, selectedBytes, allSelected, step };
}
