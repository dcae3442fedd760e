/** The line under a pane's head: where it is, and what can be done with what it shows. */
import * as DropdownMenu from "@radix-ui/react-dropdown-menu";
import { Check, CornerLeftUp, Ellipsis, Eye, EyeOff, RefreshCw, Search, X } from "lucide-react";
import type { KeyboardEvent } from "react";
import { words } from "../words";
import { Crumbs } from "./crumbs";
import { mainLandmark } from "./landmark";
import type { Order, SortColumn } from "./order";
import { parentPath, type SitePath } from "./path";

export interface PaneBarProps {
  readonly path: SitePath;
  readonly title: string;
  readonly small: boolean;
  /** While nothing can be asked of the site. */
  readonly disabled: boolean;
  readonly order: Order;
  readonly onOrder: (column: SortColumn) => void;
  /** Undefined while the filter box is closed. */
  readonly filter: string | undefined;
  readonly onFilter: (filter: string | undefined) => void;
  readonly withHidden: boolean;
  readonly onWithHidden: (withHidden: boolean) => void;
  readonly refreshing: boolean;
  readonly onRefresh: () => void;
  readonly onPath: (path: SitePath) => void;
  /** Puts the focus back on the list. */
  readonly onLeave: () => void;
}

export function PaneBar(props: PaneBarProps) {
  const { path, disabled, withHidden, small, filter } = props;
  const text = words.files.bar;
  return (
    <div className="pane-bar">
      <button
        type="button"
        className="icon-btn"
        aria-label={text.up}
        title={text.upHint}
        disabled={disabled || path.text === "/" || path.text === ""}
        onClick={() => props.onPath(parentPath(path))}
      >
        <CornerLeftUp size={16} aria-hidden />
      </button>
      <Crumbs path={path} title={props.title} small={small} disabled={disabled} onPath={props.onPath} />
      {filter === undefined ? (
        <button
          type="button"
          className="icon-btn"
          aria-label={text.filter}
          title={text.filterHint}
          disabled={disabled}
          onClick={() => props.onFilter("")}
        >
          <Search size={16} aria-hidden />
        </button>
      ) : (
        <FilterBox filter={filter} onFilter={props.onFilter} onLeave={props.onLeave} />
      )}
      {small ? (
        <MoreMenu {...props} />
      ) : (
        <>
          <button
            type="button"
            className="icon-btn"
            aria-label={text.hidden}
            title={text.hidden}
            aria-pressed={withHidden}
            disabled={disabled}
            onClick={() => props.onWithHidden(!withHidden)}
          >
            {withHidden ? <Eye size={16} aria-hidden /> : <EyeOff size={16} aria-hidden />}
          </button>
          <button
            type="button"
            className="icon-btn"
            aria-label={text.refresh}
            title={text.refresh}
            disabled={disabled}
            onClick={props.onRefresh}
          >
            <RefreshCw size={15} className={props.refreshing ? "spin" : undefined} aria-hidden />
          </button>
        </>
      )}
    </div>
  );
}

interface FilterBoxProps {
  readonly filter: string;
  readonly onFilter: (filter: string | undefined) => void;
  readonly onLeave: () => void;
}

function FilterBox({ filter, onFilter, onLeave }: FilterBoxProps) {
  const text = words.files.bar;
  const close = () => {
    onFilter(undefined);
    onLeave();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" || event.key === "ArrowDown") onLeave();
    else return;
    event.preventDefault();
  };
  return (
    <span className="filter">
      <Search size={14} aria-hidden />
      <input
        ref={focusWhenShown}
        type="text"
        aria-label={text.filter}
        placeholder={text.filterPlaceholder}
        spellCheck={false}
        value={filter}
        onChange={(event) => onFilter(event.target.value)}
        onKeyDown={onKey}
      />
      <button type="button" aria-label={text.clearFilter} onClick={close}>
        <X size={13} aria-hidden />
      </button>
    </span>
  );
}

/** The box appears because somebody asked for it, and wants to type. */
function focusWhenShown(input: HTMLInputElement | null): void {
  input?.focus();
}

/** On a narrow screen: what else there is. */
function MoreMenu({ disabled, order, onOrder, withHidden, onWithHidden, onRefresh }: PaneBarProps) {
  const text = words.files.bar;
  const columns: readonly SortColumn[] = ["name", "size", "modified"];
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger className="icon-btn" aria-label={text.more} disabled={disabled}>
        <Ellipsis size={18} aria-hidden />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal container={mainLandmark()}>
        <DropdownMenu.Content className="menu" align="end" sideOffset={4} collisionPadding={8}>
          <DropdownMenu.Item className="menu-item" onSelect={onRefresh}>
            <RefreshCw size={15} aria-hidden />
            {text.refresh}
          </DropdownMenu.Item>
          <DropdownMenu.CheckboxItem className="menu-item" checked={withHidden} onCheckedChange={onWithHidden}>
            {withHidden ? <Eye size={15} aria-hidden /> : <EyeOff size={15} aria-hidden />}
            <span className="grow">{text.hidden}</span>
            <DropdownMenu.ItemIndicator>
              <Check size={14} aria-hidden />
            </DropdownMenu.ItemIndicator>
          </DropdownMenu.CheckboxItem>
          <DropdownMenu.Separator className="menu-line" />
          <DropdownMenu.Label className="menu-label">{text.sortBy}</DropdownMenu.Label>
          <DropdownMenu.RadioGroup value={order.column} onValueChange={(column) => onOrder(column as SortColumn)}>
            {columns.map((column) => (
              <DropdownMenu.RadioItem key={column} className="menu-item" value={column}>
                <span className="grow">{words.files.columns[column]}</span>
                <DropdownMenu.ItemIndicator>
                  <Check size={14} aria-hidden />
                </DropdownMenu.ItemIndicator>
              </DropdownMenu.RadioItem>
            ))}
          </DropdownMenu.RadioGroup>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
