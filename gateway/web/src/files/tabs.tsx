/** On a narrow screen one pane is shown at a time; here one chooses which. */
import { count } from "../format";
import { words } from "../words";
import { hueOf } from "./hue";
import { type Place, SIDES, type Side } from "./places";

export interface TabsProps {
  readonly shown: Side;
  readonly onShow: (side: Side) => void;
  readonly places: Readonly<Record<Side, Place | undefined>>;
  readonly titles: Readonly<Record<Side, string | undefined>>;
  readonly selected: Readonly<Record<Side, number>>;
}

export function Tabs({ shown, onShow, places, titles, selected }: TabsProps) {
  return (
    <div className="tabs" role="tablist" aria-label={words.files.siteShown}>
      {SIDES.map((side) => {
        const place = places[side];
        return (
          <button
            key={side}
            type="button"
            role="tab"
            aria-selected={shown === side}
            aria-controls={`pane-${side}`}
            data-hue={place && hueOf(place.site)}
            onClick={() => onShow(side)}
          >
            <span className="tab-name">{titles[side] ?? words.files.chooseSite}</span>
            {selected[side] > 0 && <span className="badge">{count(selected[side])}</span>}
          </button>
        );
      })}
    </div>
  );
}
