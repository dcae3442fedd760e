/**
 * A pane's list. The scroller itself is the grid: it has the focus and names the active row; only the rows in sight are
 * in the page, so that 100,000 of them scroll like ten.
 */
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  type ReactNode,
  type Ref,
  useCallback,
  useEffect,
  useId,
  useImperativeHandle,
  useRef,
} from "react";
import { words } from "../words";
import { FileRow, type RowActions } from "./file-row";
import { GridHead } from "./grid-head";
import type { Order, SortColumn } from "./order";
import type { Side } from "./places";
import type { Row } from "./row";
import type { Selection } from "./selection";

const ROW_PX = 34;
const ROW_SMALL_PX = 56;
const HEAD_PX = 30;
const HEAD_SMALL_PX = 36;
const OVERSCAN = 12;

export interface GridHandle {
  readonly focus: () => void;
  readonly reveal: (index: number) => void;
  /** Rows that one page holds. */
  readonly page: () => number;
}

export interface FileGridProps {
  readonly handle: Ref<GridHandle>;
  readonly side: Side;
  readonly label: string;
  readonly rows: readonly Row[];
  readonly loading: boolean;
  readonly selection: Selection;
  readonly activeIndex: number;
  readonly allSelected: boolean;
  readonly order: Order;
  readonly small: boolean;
  readonly actions: RowActions;
  readonly onOrder: (column: SortColumn) => void;
  readonly onSelectAll: () => void;
  readonly onKey: (event: KeyboardEvent) => void;
  /** Shown in place of the rows: why there are none. */
  readonly instead: ReactNode;
  /** Whether there is nothing that columns could be of. */
  readonly headless: boolean;
}

export function FileGrid(props: FileGridProps) {
  const { rows, small, selection, activeIndex, actions } = props;
  const id = useId();
  const scroller = useRef<HTMLDivElement>(null);
  const height = small ? ROW_SMALL_PX : ROW_PX;
  const head = small ? HEAD_SMALL_PX : HEAD_PX;
  // A new function means measuring 100,000 rows again, so they stay the same from one frame to the next.
  const getScrollElement = useCallback(() => scroller.current, []);
  const estimateSize = useCallback(() => height, [height]);
  const getItemKey = useCallback((index: number) => rows[index]?.key ?? index, [rows]);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement,
    estimateSize,
    getItemKey,
    overscan: OVERSCAN,
    scrollMargin: head,
    scrollPaddingStart: head,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another row height is what has to be measured
  useEffect(() => virtual.measure(), [height, virtual]);

  useImperativeHandle(props.handle, () => ({
    focus: () => scroller.current?.focus({ preventScroll: true }),
    reveal: (index) => virtual.scrollToIndex(index),
    page: () => Math.max(1, Math.floor(((scroller.current?.clientHeight ?? 0) - head) / height) - 1),
  }));

  const items = virtual.getVirtualItems();
  const activeShown = !props.instead && items.some((item) => item.index === activeIndex);
  return (
    // biome-ignore lint/a11y/useSemanticElements: a table cannot be virtualised
    <div
      ref={scroller}
      role="grid"
      tabIndex={0}
      className="grid"
      data-grid={props.side}
      aria-label={props.label}
      aria-multiselectable
      aria-rowcount={rows.length + 1}
      aria-busy={props.loading}
      aria-activedescendant={activeShown ? `${id}-${activeIndex}` : undefined}
      onKeyDown={props.onKey}
    >
      {!props.headless && (
        <GridHead
          order={props.order}
          small={small}
          checked={selection.keys.size === 0 ? false : props.allSelected ? true : "mixed"}
          disabled={rows.length === 0}
          onOrder={props.onOrder}
          onSelectAll={props.onSelectAll}
        />
      )}
      {props.instead ? (
        // biome-ignore lint/a11y/useSemanticElements: as above
        // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus
        <div role="row">
          {/* biome-ignore lint/a11y/useSemanticElements: as above */}
          {/* biome-ignore lint/a11y/useFocusableInteractive: as above */}
          <div role="gridcell">{props.instead}</div>
        </div>
      ) : rows.length === 0 ? (
        <Skeleton />
      ) : (
        // biome-ignore lint/a11y/useSemanticElements: as above
        <div role="rowgroup" className="rows" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <FileRow
                key={row.key}
                id={`${id}-${item.index}`}
                row={row}
                index={item.index}
                top={item.start - head}
                selected={selection.keys.has(row.key)}
                active={item.index === activeIndex}
                small={small}
                actions={actions}
              />
            );
          })}
        </div>
      )}
    </div>
  );
}

/** Lines that stand for rows that are still to come. */
export function Skeleton() {
  return (
    <div className="skeletons" role="presentation">
      {SKELETON_WIDTHS.map((width, index) => (
        <div key={index} className="skeleton" data-width={width} />
      ))}
      <span className="sr">{words.files.foot.loadingFirst}</span>
    </div>
  );
}

const SKELETON_WIDTHS = [5, 3, 4, 2, 5, 4, 3, 5, 2, 4];
