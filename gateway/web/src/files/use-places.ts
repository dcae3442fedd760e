/** The panes' places, as the page's address has them. */
import { useCallback, useMemo } from "react";
import { useLocation, useSearch } from "wouter";
import { type Place, placeIn, type Side, withPlace } from "./places";

export type Places = Readonly<Record<Side, Place | undefined>>;

export type GoTo = (side: Side, place: Place, replace: boolean) => void;

export function usePlaces(): readonly [Places, GoTo] {
  const search = useSearch();
  const [, navigate] = useLocation();
  const places = useMemo(() => {
    const parameters = new URLSearchParams(search);
    return { left: placeIn(parameters, "left"), right: placeIn(parameters, "right") };
  }, [search]);

  const goTo = useCallback<GoTo>(
    (side, place, replace) => {
      // From the address itself: both panes may ask in one go.
      const { pathname, search: now } = window.location;
      const parameters = withPlace(new URLSearchParams(now), side, place);
      // Slashes may stand in a query as they are, and paths are to be read.
      navigate(`${pathname}?${parameters.toString().replaceAll("%2F", "/")}`, { replace });
    },
    [navigate],
  );
  return [usePlacesSame(places), goTo];
}

/** The same objects for the same places, so that what was made for a pane is not made anew when the other one moves. */
function usePlacesSame(places: Places): Places {
  const left = usePlaceSame(places.left);
  const right = usePlaceSame(places.right);
  return useMemo(() => ({ left, right }), [left, right]);
}

function usePlaceSame(place: Place | undefined): Place | undefined {
  const text = place && JSON.stringify([place.site, place.path.text, place.path.raw ? [...place.path.raw] : null]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is the place, compared by value
  return useMemo(() => place, [text]);
}
