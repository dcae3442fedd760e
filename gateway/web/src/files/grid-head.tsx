/** The head of a pane's list: select all, and the columns, which sort. */
import { ArrowDown, ArrowUp, Check } from "lucide-react";
import { words } from "../words";
import type { Order, SortColumn } from "./order";

export interface GridHeadProps {
  readonly order: Order;
  readonly small: boolean;
  readonly checked: boolean | "mixed";
  readonly disabled: boolean;
  readonly onOrder: (column: SortColumn) => void;
  readonly onSelectAll: () => void;
}

export function GridHead({ order, small, checked, disabled, onOrder, onSelectAll }: GridHeadProps) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a table cannot be virtualised
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus
    <div role="row" aria-rowindex={1} className="thead">
      {/* biome-ignore lint/a11y/useSemanticElements: as above */}
      {/* biome-ignore lint/a11y/useFocusableInteractive: as above */}
      <span role="columnheader" className="c-check">
        {/* biome-ignore lint/a11y/useSemanticElements: an input cannot look like this one in all browsers */}
        <button
          type="button"
          role="checkbox"
          className="check-button"
          aria-label={words.files.columns.selectAll}
          aria-checked={checked}
          disabled={disabled}
          onClick={onSelectAll}
        >
          <span className="check" data-on={checked !== false || undefined} aria-hidden>
            {checked === true && <Check size={12} strokeWidth={3} />}
            {checked === "mixed" && <span className="dash" />}
          </span>
        </button>
      </span>
      <Column column="name" order={order} onOrder={onOrder} />
      {!small && (
        <>
          <Column column="size" order={order} onOrder={onOrder} />
          <Column column="modified" order={order} onOrder={onOrder} />
          {/* biome-ignore lint/a11y/useSemanticElements: as above */}
          {/* biome-ignore lint/a11y/useFocusableInteractive: as above */}
          <span role="columnheader" className="c-mode">
            <span className="th">{words.files.columns.mode}</span>
          </span>
        </>
      )}
    </div>
  );
}

interface ColumnProps {
  readonly column: SortColumn;
  readonly order: Order;
  readonly onOrder: (column: SortColumn) => void;
}

const CLASSES: Readonly<Record<SortColumn, string>> = { name: "c-name", size: "c-size", modified: "c-date" };

function Column({ column, order, onOrder }: ColumnProps) {
  const isOrdered = order.column === column;
  const direction = order.ascending ? "ascending" : "descending";
  const Arrow = order.ascending ? ArrowUp : ArrowDown;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a table cannot be virtualised
    // biome-ignore lint/a11y/useFocusableInteractive: the button in it has the focus
    <span role="columnheader" className={CLASSES[column]} aria-sort={isOrdered ? direction : "none"}>
      <button type="button" className="th" onClick={() => onOrder(column)}>
        {words.files.columns[column]}
        {isOrdered && <Arrow size={12} aria-hidden />}
      </button>
    </span>
  );
}
