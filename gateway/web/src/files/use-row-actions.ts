/** What clicks and drags on rows do. One object for as long as the list is shown, so that rows are not rendered anew. */
import { type RefObject, useMemo, useRef } from "react";
import { bytes, plural } from "../format";
import { words } from "../words";
import type { DraggedRows } from "./drag";
import type { GridHandle } from "./file-grid";
import type { RowActions } from "./file-row";
import { childPath } from "./path";
import type { Place, Side } from "./places";
import { isOpenable, isSelectable, type Row } from "./row";
import { bytesOf } from "./selection";
import { shownName } from "./shown";
import type { PaneSelection } from "./use-selection";

export interface RowActionsNeed {
  readonly side: Side;
  readonly place: Place | undefined;
  /** Whether it is a finger that points. */
  readonly touch: boolean;
  readonly grid: RefObject<GridHandle | null>;
  readonly pane: PaneSelection;
  readonly open: (row: Row | undefined) => void;
  readonly onDrop: (dragged: DraggedRows, side: Side, to: Place) => void;
}

export function useRowActions(need: RowActionsNeed): RowActions {
  const now = useRef(need);
  now.current = need;
  return useMemo<RowActions>(
    () => ({
      dragged: (row) => {
        const { side, place, pane } = now.current;
        if (!place || !isSelectable(row)) return undefined;
        const rows = pane.selection.keys.has(row.key) ? pane.selected : [row];
        return { side, from: place, rows };
      },
      summary: summaryOf,
      onDropInto: (dragged, directory) => {
        const { side, place, onDrop } = now.current;
        if (place) onDrop(dragged, side, { site: place.site, path: childPath(place.path, directory) });
      },
      onClick: (index, event) => {
        const { touch, grid, pane, open } = now.current;
        grid.current?.focus();
        const row = pane.rows[index];
        const from = pane.activeIndex;
        const ctrl = event.ctrlKey || event.metaKey;
        // A finger cannot double-click: it opens folders, and adds files to the selection.
        if (touch && row && isOpenable(row)) open(row);
        else if (touch) pane.step({ kind: "check", index, from, shift: false });
        else pane.step({ kind: "click", index, from, ctrl, shift: event.shiftKey });
      },
      onOpen: (index) => {
        const { touch, pane, open } = now.current;
        if (!touch) open(pane.rows[index]);
      },
      onCheck: (index, shift) => {
        const { grid, pane } = now.current;
        grid.current?.focus();
        pane.step({ kind: "check", index, from: pane.activeIndex, shift });
      },
    }),
    [],
  );
}

/** What hangs on the pointer during a drag: the one name, or how much it is. */
function summaryOf({ rows }: DraggedRows): string {
  const [first] = rows;
  if (rows.length === 1 && first) return shownName(first.name);
  const size = bytesOf(rows);
  const items = plural(rows.length, words.files.foot.item);
  return size > 0 ? `${items} · ${bytes(size)}` : items;
}
