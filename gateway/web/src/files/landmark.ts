/** Where menus of a screen are put, so that what they say is found in the screen and not beside it. */

export function mainLandmark(): HTMLElement | null {
  return document.querySelector("main");
}
