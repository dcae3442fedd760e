/** A pane as a place to drop on: into the directory that it shows, or into the folder under the pointer. */
import { dropTargetForElements } from "@atlaskit/pragmatic-drag-and-drop/element/adapter";
import { type RefObject, useEffect, useRef } from "react";
import { type DraggedRows, draggedRows } from "./drag";
import { lastName } from "./path";
import { type Place, placeKey, type Side } from "./places";

export interface PaneDrop {
  readonly section: RefObject<HTMLElement | null>;
  readonly side: Side;
  /** The directory that the pane shows; undefined where nothing can be dropped. */
  readonly place: Place | undefined;
  readonly onDrop: (dragged: DraggedRows, side: Side, to: Place) => void;
  /** Called with the name of the folder that a drop would go to, and with undefined where it would go nowhere. */
  readonly onOver: (folder: string | undefined) => void;
}

export function usePaneDrop({ section, side, place, onDrop, onOver }: PaneDrop): void {
  const latest = useRef(place);
  latest.current = place;
  const ready = place !== undefined;
  useEffect(() => {
    const element = section.current;
    if (!element || !ready) return;
    /** Let go where it was taken from, nothing is meant by it. */
    const isElsewhere = (dragged: DraggedRows, to: Place) => placeKey(dragged.from) !== placeKey(to);
    return dropTargetForElements({
      element,
      getDropEffect: () => "copy",
      canDrop: ({ source }) => draggedRows(source.data) !== undefined,
      onDragEnter: ({ source, location }) => onOver(folderUnder(source.data, location.current.dropTargets)),
      onDropTargetChange: ({ source, location }) => onOver(folderUnder(source.data, location.current.dropTargets)),
      onDragLeave: () => onOver(undefined),
      onDrop: ({ source, location }) => {
        onOver(undefined);
        const dragged = draggedRows(source.data);
        const to = latest.current;
        // A folder row takes its own drops.
        if (!dragged || !to || location.current.dropTargets[0]?.element !== element) return;
        if (isElsewhere(dragged, to)) onDrop(dragged, side, to);
      },
    });

    function folderUnder(data: Record<string | symbol, unknown>, targets: readonly Target[]): string | undefined {
      const dragged = draggedRows(data);
      const to = latest.current;
      const [innermost] = targets;
      if (!dragged || !to || !targets.some((target) => target.element === element)) return undefined;
      if (typeof innermost?.data.directory === "string") return innermost.data.directory;
      return isElsewhere(dragged, to) ? lastName(to.path) : undefined;
    }
  }, [section, side, ready, onDrop, onOver]);
}

interface Target {
  readonly element: Element;
  readonly data: Record<string | symbol, unknown>;
}
