/** A directory in a pane: its bar, its list and its foot, and what the keys do there. */
import { type KeyboardEvent, type Ref, useCallback, useEffect, useImperativeHandle, useRef, useState } from "react";
import { words } from "../words";
import type { DraggedRows } from "./drag";
import { FileGrid, type GridHandle } from "./file-grid";
import { commandOf, type PaneCommand } from "./keyboard";
import { type Order, orderAfterClick, type SortColumn } from "./order";
import { PaneBar } from "./pane-bar";
import { PaneFoot } from "./pane-foot";
import { EmptyFolder, IsFile, ListingFailed } from "./pane-states";
import { childPath, parentPath, type SitePath } from "./path";
import type { Place, Side } from "./places";
import { isOpenable, isSelectable, type Row } from "./row";
import { shownName } from "./shown";
import { type PaneListing, useShownRows } from "./use-listing";
import { useRowActions } from "./use-row-actions";
import { usePaneSelection } from "./use-selection";

/** What the page knows of a pane that shows a directory. */
export interface PaneReport {
  readonly place: Place;
  readonly selected: readonly Row[];
  readonly clear: () => void;
}

/** What a directory asks of the page. None of them ever changes. */
export interface DirectoryActions {
  readonly onReport: (side: Side, report: PaneReport | undefined) => void;
  readonly onCopy: (side: Side, rows: readonly Row[]) => void;
  readonly onDrop: (dragged: DraggedRows, side: Side, to: Place) => void;
  readonly onClip: (side: Side, rows: readonly Row[]) => void;
  readonly onPaste: (side: Side) => void;
  readonly onOther: (side: Side) => void;
}

/** How a directory is entered. */
export interface Entrance {
  /** Whether the list takes the focus: whoever came here had it in this pane. */
  readonly focus: boolean;
  /** Key of the row that is active at first: on the way up, the folder that one comes from. */
  readonly active: string | undefined;
}

export interface DirectoryProps extends DirectoryActions {
  readonly handle: Ref<DirectoryHandle>;
  readonly side: Side;
  readonly title: string;
  readonly target: string | undefined;
  readonly small: boolean;
  readonly touch: boolean;
  readonly paneListing: PaneListing;
  /** Where it is, as long as the site has not told. */
  readonly expectedPath: SitePath;
  readonly entrance: Entrance;
  readonly onPath: (path: SitePath) => void;
  readonly order: Order;
  readonly onOrder: (order: Order) => void;
  readonly withHidden: boolean;
  readonly onWithHidden: (withHidden: boolean) => void;
}

export interface DirectoryHandle {
  readonly focus: () => void;
}

export function Directory(props: DirectoryProps) {
  const { side, title, small, paneListing, entrance, order, withHidden, onPath, onReport } = props;
  const { listing, state, place } = paneListing;
  const [filter, setFilter] = useState<string>();
  const rows = useShownRows(paneListing, { order, filter: filter ?? "", withHidden });
  const pane = usePaneSelection(rows, state.rows, entrance.active);
  const { selection, activeIndex, selected, step } = pane;
  const grid = useRef<GridHandle>(null);
  const path = place?.path ?? props.expectedPath;
  const loading = state.status === "loading";

  useImperativeHandle(props.handle, () => ({ focus: () => grid.current?.focus() }));
  useEntrance(entrance, pane.rows, activeIndex, grid);

  const clear = useCallback(() => step({ kind: "none" }), [step]);
  useEffect(() => {
    onReport(side, place && !state.isFile ? { place, selected, clear } : undefined);
  }, [side, place, state.isFile, selected, clear, onReport]);
  useEffect(() => () => onReport(side, undefined), [side, onReport]);

  const open = (row: Row | undefined) => {
    if (row && place && isOpenable(row)) onPath(childPath(place.path, row));
  };
  const up = () => {
    if (place) onPath(parentPath(place.path));
  };
  const actions = useRowActions({ side, place, touch: props.touch, grid, pane, open, onDrop: props.onDrop });
  const onOrder = (column: SortColumn) => props.onOrder(orderAfterClick(order, column));

  /** What is selected, else the active row. */
  const meant = (): readonly Row[] => {
    const active = rows[activeIndex];
    return selected.length > 0 || !active || !isSelectable(active) ? selected : [active];
  };

  const obey = (command: PaneCommand) => {
    switch (command.kind) {
      case "move":
        step({ kind: "move", index: command.to, from: activeIndex, ctrl: command.ctrl, shift: command.shift });
        grid.current?.reveal(command.to);
        return;
      case "toggle":
        return step({ kind: "check", index: activeIndex, from: activeIndex, shift: false });
      case "open":
        return open(rows[activeIndex]);
      case "up":
        return up();
      case "other":
        return props.onOther(side);
      case "copyAcross":
        return props.onCopy(side, meant());
      case "clip":
        return props.onClip(side, meant());
      case "paste":
        return props.onPaste(side);
      case "filter":
        return setFilter((before) => before ?? "");
      default:
        return step({ kind: command.kind });
    }
  };

  const onKey = (event: KeyboardEvent) => {
    // Only while the list itself has the focus: buttons in its head have keys of their own.
    if (event.target !== event.currentTarget) return;
    const context = { active: activeIndex, count: rows.length, page: grid.current?.page() ?? 1, side };
    const command = commandOf(event, context);
    if (!command) return;
    event.preventDefault();
    obey(command);
  };

  const shownCount = rows.reduce((sum, row) => sum + (row.arrival ? 0 : 1), 0);
  return (
    <>
      <PaneBar
        path={path}
        title={title}
        small={small}
        disabled={false}
        order={order}
        onOrder={onOrder}
        filter={filter}
        onFilter={setFilter}
        withHidden={withHidden}
        onWithHidden={props.onWithHidden}
        refreshing={state.refreshing || loading}
        onRefresh={() => listing.refresh()}
        onPath={onPath}
        onLeave={() => grid.current?.focus()}
      />
      {state.status === "complete" && state.failure && (
        <p className="stale" role="status">
          <span>
            <strong>{words.files.states.refreshFailed}</strong> {state.failure.what}
          </span>
          <button type="button" className="btn ghost" onClick={() => listing.refresh()}>
            {words.tryAgain}
          </button>
        </p>
      )}
      <FileGrid
        handle={grid}
        side={side}
        label={words.files.gridLabel(shownName(path.text), title)}
        rows={rows}
        loading={loading}
        selection={selection}
        activeIndex={activeIndex}
        allSelected={pane.allSelected}
        order={order}
        small={small}
        actions={actions}
        onOrder={onOrder}
        onSelectAll={() => step({ kind: selection.keys.size > 0 ? "none" : "all" })}
        onKey={onKey}
        instead={insteadOfRows()}
        headless={state.status === "failed" || state.isFile}
      />
      <PaneFoot
        side={side}
        small={small}
        signedIn
        countable={state.status !== "failed" && !state.isFile}
        loading={loading}
        shownCount={shownCount}
        hiddenCount={Math.max(0, state.count - shownCount)}
        selectedCount={selected.length}
        selectedBytes={pane.selectedBytes}
        target={props.target}
        onClear={clear}
        onCopy={() => props.onCopy(side, selected)}
      />
    </>
  );

  /** What is shown in the list's place, where there are no rows to show. */
  function insteadOfRows() {
    if (state.status === "failed" && state.failure) {
      const retry = () => listing.refresh();
      return <ListingFailed heading={words.files.states.failed} failure={state.failure} onRetry={retry} />;
    }
    if (state.isFile) return <IsFile path={path} onParent={up} />;
    if (rows.length > 0 || loading) return undefined;
    const showHidden = () => props.onWithHidden(true);
    return <EmptyFolder title={title} filter={filter ?? ""} hiddenCount={state.count} onShowHidden={showHidden} />;
  }
}

/** Sees to the focus and to the row that one came from, once it is there. */
function useEntrance(
  { focus, active }: Entrance,
  rows: readonly Row[],
  activeIndex: number,
  grid: React.RefObject<GridHandle | null>,
): void {
  useEffect(() => {
    if (focus) grid.current?.focus();
  }, [focus, grid]);
  const revealed = useRef(false);
  const isThere = active !== undefined && rows[activeIndex]?.key === active;
  useEffect(() => {
    if (!isThere || revealed.current) return;
    revealed.current = true;
    grid.current?.reveal(activeIndex);
  }, [isThere, activeIndex, grid]);
}
