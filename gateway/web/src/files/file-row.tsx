/** One row of a listing. */
import { combine } from "@atlaskit/pragmatic-drag-and-drop/combine";
import { draggable, dropTargetForElements } from "@atlaskit/pragmatic-drag-and-drop/element/adapter";
import { setCustomNativeDragPreview } from "@atlaskit/pragmatic-drag-and-drop/element/set-custom-native-drag-preview";
import { Check } from "lucide-react";
import { type MouseEvent, memo, useEffect, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { bytes, mode, when } from "../format";
import { EntryKind } from "../gen/wherry/type/v1/entry_pb";
import { words } from "../words";
import { ArrivingCell } from "./arriving-cell";
import { type DraggedRows, draggedRows, dragRecord } from "./drag";
import { FileIcon } from "./file-icon";
import { isDirectory, isSelectable, type Row } from "./row";
import { shownName } from "./shown";

/** What a row can ask of its list; one object that never changes, so that rows render again only for their own news. */
export interface RowActions {
  /** What a drag of this row takes along: the selection if it is part of it, else the row alone. */
  readonly dragged: (row: Row) => DraggedRows | undefined;
  readonly summary: (dragged: DraggedRows) => string;
  readonly onDropInto: (dragged: DraggedRows, directory: Row) => void;
  readonly onClick: (index: number, event: MouseEvent) => void;
  readonly onOpen: (index: number) => void;
  readonly onCheck: (index: number, shift: boolean) => void;
}

export interface FileRowProps {
  readonly id: string;
  readonly row: Row;
  readonly index: number;
  /** Pixels from the first row's place. */
  readonly top: number;
  readonly selected: boolean;
  readonly active: boolean;
  readonly small: boolean;
  readonly actions: RowActions;
}

interface Preview {
  readonly container: HTMLElement;
  readonly dragged: DraggedRows;
}

export const FileRow = memo(function FileRow(props: FileRowProps) {
  const { id, row, index, top, selected, active, small, actions } = props;
  const element = useRef<HTMLDivElement>(null);
  const [isOver, setIsOver] = useState(false);
  const [preview, setPreview] = useState<Preview>();

  useEffect(() => {
    if (!element.current || !isSelectable(row)) return;
    const drag = draggableRow(element.current, row, actions, setPreview);
    return isDirectory(row) ? combine(drag, dropTargetRow(element.current, row, actions, setIsOver)) : drag;
  }, [row, actions]);

  const name = shownName(row.name);
  return (
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus and says which row is active
    // biome-ignore lint/a11y/useKeyWithClickEvents: the grid takes the keys
    // biome-ignore lint/a11y/useSemanticElements: a table cannot be virtualised
    <div
      ref={element}
      id={id}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={isSelectable(row) ? selected : undefined}
      className="row"
      data-name={row.name}
      data-active={active || undefined}
      data-over={isOver || undefined}
      data-kind={KINDS[row.kind]}
      data-arriving={row.arrival?.job}
      style={{ transform: `translateY(${top}px)` }}
      onClick={(event) => actions.onClick(index, event)}
      onDoubleClick={() => actions.onOpen(index)}
    >
      <CheckCell row={row} name={name} index={index} selected={selected} onCheck={actions.onCheck} />
      <Cell className="c-name">
        <FileIcon row={row} open={isOver} />
        <bdi className="fname" title={name}>
          {name}
        </bdi>
      </Cell>
      {row.arrival ? <ArrivingCell arrival={row.arrival} /> : <Facts row={row} small={small} />}
      {preview &&
        createPortal(
          <div className="drag-preview">
            <span className="drag-badge">{preview.dragged.rows.length}</span>
            {actions.summary(preview.dragged)}
          </div>,
          preview.container,
        )}
    </div>
  );
});

export const KINDS: Readonly<Record<EntryKind, string>> = {
  [EntryKind.UNSPECIFIED]: "other",
  [EntryKind.FILE]: "file",
  [EntryKind.DIRECTORY]: "folder",
  [EntryKind.SYMLINK]: "link",
  [EntryKind.OTHER]: "other",
  [EntryKind.UNLISTABLE]: "unlistable",
};

export function Cell({ className, children }: { readonly className: string; readonly children?: React.ReactNode }) {
  return (
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus and says which row is active
    // biome-ignore lint/a11y/useSemanticElements: a table cannot be virtualised
    <span role="gridcell" className={className}>
      {children}
    </span>
  );
}

interface CheckCellProps {
  readonly row: Row;
  readonly name: string;
  readonly index: number;
  readonly selected: boolean;
  readonly onCheck: (index: number, shift: boolean) => void;
}

function CheckCell({ row, name, index, selected, onCheck }: CheckCellProps) {
  if (!isSelectable(row)) return <Cell className="c-check" />;
  return (
    <Cell className="c-check">
      {/* biome-ignore lint/a11y/useSemanticElements: looks alike everywhere, and takes no focus from the list */}
      <button
        type="button"
        role="checkbox"
        tabIndex={-1}
        aria-checked={selected}
        aria-label={words.files.row.select(name)}
        className="check-button"
        onMouseDown={(event) => event.preventDefault()}
        onDoubleClick={(event) => event.stopPropagation()}
        onClick={(event) => {
          event.stopPropagation();
          onCheck(index, event.shiftKey);
        }}
      >
        <span className="check" aria-hidden>
          {selected && <Check size={12} strokeWidth={3} />}
        </span>
      </button>
    </Cell>
  );
}

/** Size, time and mode, or why there are none. */
function Facts({ row, small }: { readonly row: Row; readonly small: boolean }) {
  const modified = row.modifiedMs > 0 ? when(row.modifiedMs) : "–";
  if (row.kind === EntryKind.UNLISTABLE) {
    const why = row.failure?.message ?? words.files.row.unlistable;
    return (
      <Cell className="c-why">
        <span title={[why, row.failure?.help].filter(Boolean).join(" ")}>{why}</span>
      </Cell>
    );
  }
  if (small) return <Cell className="c-sub num">{`${sizeOf(row)} · ${modified}`}</Cell>;
  return (
    <>
      <Cell className="c-size num">{isSized(row) ? bytes(row.sizeBytes) : <span className="dim">–</span>}</Cell>
      <Cell className="c-date num">{modified}</Cell>
      <Cell className="c-mode mono">{row.mode > 0 ? mode(row.mode, isDirectory(row)) : "–"}</Cell>
    </>
  );
}

function isSized(row: Row): boolean {
  return row.kind === EntryKind.FILE;
}

function sizeOf(row: Row): string {
  if (isSized(row)) return bytes(row.sizeBytes);
  if (isDirectory(row)) return words.files.row.folder;
  return row.kind === EntryKind.SYMLINK ? words.files.row.link : words.files.row.special;
}

function draggableRow(
  element: HTMLElement,
  row: Row,
  actions: RowActions,
  setPreview: (preview: Preview | undefined) => void,
): () => void {
  return draggable({
    element,
    canDrag: () => actions.dragged(row) !== undefined,
    getInitialData: () => {
      const dragged = actions.dragged(row);
      return dragged ? dragRecord(dragged) : {};
    },
    onGenerateDragPreview: ({ nativeSetDragImage, source }) => {
      const dragged = draggedRows(source.data);
      if (!dragged) return;
      setCustomNativeDragPreview({
        nativeSetDragImage,
        getOffset: () => ({ x: -14, y: -10 }),
        render: ({ container }) => {
          setPreview({ container, dragged });
          return () => setPreview(undefined);
        },
      });
    },
  });
}

function dropTargetRow(
  element: HTMLElement,
  row: Row,
  actions: RowActions,
  setIsOver: (isOver: boolean) => void,
): () => void {
  return dropTargetForElements({
    element,
    getData: () => ({ directory: row.name }),
    getDropEffect: () => "copy",
    canDrop: ({ source }) => {
      const dragged = draggedRows(source.data);
      return dragged !== undefined && !dragged.rows.includes(row);
    },
    onDragEnter: () => setIsOver(true),
    onDragLeave: () => setIsOver(false),
    onDrop: ({ source }) => {
      setIsOver(false);
      const dragged = draggedRows(source.data);
      if (dragged) actions.onDropInto(dragged, row);
    },
  });
}
