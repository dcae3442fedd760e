/** How far the job is that will make a row. */
import { words } from "../words";
import { hueOf } from "./hue";
import type { Arrival } from "./row";
import { useFraction } from "./use-listing";

export function ArrivingCell({ arrival }: { readonly arrival: Arrival }) {
  const share = useFraction(arrival.job);
  return (
    // biome-ignore lint/a11y/useFocusableInteractive: the grid has the focus and says which row is active
    // biome-ignore lint/a11y/useSemanticElements: a table cannot be virtualised
    <span role="gridcell" className="c-arriving num">
      <span className="bar" data-from={hueOf(arrival.from)} aria-hidden>
        <i style={{ transform: `scaleX(${share})` }} />
      </span>
      <span>
        {words.files.row.arriving} <b>{words.files.row.percent(Math.floor(share * 100))}</b>
      </span>
    </span>
  );
}
