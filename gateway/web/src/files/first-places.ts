/** Which sites the panes show when the address names none. */
import type { Site } from "../gen/wherry/site/v1/site_service_pb";

/**
 * Two different sites if there are two, those first where one is signed in already.
 *
 * @returns names of sites for the left and the right pane; undefined for one that keeps what it has.
 */
export function firstSites(
  sites: readonly Site[],
  isSignedIn: (site: string) => boolean,
  left: string | undefined,
  right: string | undefined,
): readonly [string | undefined, string | undefined] {
  const names = sites.map((site) => site.name);
  const ranked = [...names.filter(isSignedIn), ...names.filter((name) => !isSignedIn(name))];
  const choose = (taken: string | undefined) => ranked.find((name) => name !== taken) ?? ranked[0];
  const chosenLeft = left === undefined ? choose(right) : undefined;
  const chosenRight = right === undefined ? choose(left ?? chosenLeft) : undefined;
  return [chosenLeft, chosenRight];
}
