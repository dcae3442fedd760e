import { describe, expect, test } from "vitest";
import { commandOf, type KeyPress } from "../../../src/files/keyboard";

const context = { active: 5, count: 20, page: 8, side: "left" } as const;

function press(key: string, held: Partial<KeyPress> = {}, of: Parameters<typeof commandOf>[1] = context) {
  return commandOf({ key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...held }, of);
}

describe("V2: in a list", () => {
  test.each([
    ["ArrowDown", 6],
    ["ArrowUp", 4],
    ["PageDown", 13],
    ["PageUp", 0],
    ["Home", 0],
    ["End", 19],
  ])("%s moves to row %i", (key, to) => {
    expect(press(key)).toEqual({ kind: "move", to, ctrl: false, shift: false });
  });

  test("no key moves beyond the ends", () => {
    expect(press("ArrowUp", {}, { ...context, active: 0 })).toMatchObject({ to: 0 });
    expect(press("ArrowDown", {}, { ...context, active: 19 })).toMatchObject({ to: 19 });
    expect(press("End", {}, { ...context, count: 0 })).toMatchObject({ to: 0 });
  });

  test.each([
    [" ", "toggle"],
    ["Enter", "open"],
    ["Backspace", "up"],
    ["Escape", "none"],
    ["/", "filter"],
  ])("%s means %s", (key, kind) => {
    expect(press(key)).toEqual({ kind });
  });

  test.each([
    ["Enter", "copyAcross"],
    ["a", "all"],
    ["c", "clip"],
    ["v", "paste"],
  ])("Ctrl+%s means %s, and so does the command key", (key, kind) => {
    expect(press(key, { ctrlKey: true })).toEqual({ kind });
    expect(press(key, { metaKey: true })).toEqual({ kind });
  });

  test("an arrow to the side leads to the pane on that side", () => {
    expect(press("ArrowRight")).toEqual({ kind: "other" });
    expect(press("ArrowLeft")).toBeUndefined();
    expect(press("ArrowLeft", {}, { ...context, side: "right" })).toEqual({ kind: "other" });
  });

  test("keys that are the browser's are left to it", () => {
    for (const key of ["F5", "Tab", "x"]) expect(press(key)).toBeUndefined();
    expect(press("ArrowLeft", { altKey: true })).toBeUndefined();
    expect(press("r", { ctrlKey: true })).toBeUndefined();
  });
});
