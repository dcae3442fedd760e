/** What travels with a drag: rows of a listing, and where they lie. */
import type { Place, Side } from "./places";
import type { Row } from "./row";

const KIND = "wherry-rows";

export interface DraggedRows {
  readonly side: Side;
  readonly from: Place;
  readonly rows: readonly Row[];
}

type DragRecord = Record<string | symbol, unknown>;

export function dragRecord(dragged: DraggedRows): DragRecord {
  return { kind: KIND, dragged };
}

/** What is dragged, or undefined where it is nothing of ours. */
export function draggedRows(record: DragRecord): DraggedRows | undefined {
  return record.kind === KIND ? (record.dragged as DraggedRows) : undefined;
}
