import { describe, expect, test } from "vitest";
import { NOTHING, type Selection, type SelectionStep, select, selectedRows } from "../../../src/files/selection";
import { EntryKind } from "../../../src/gen/wherry/type/v1/entry_pb";
import { file, names, row, rows } from "../../fakes/entries";

const five = rows(file("a"), file("b"), file("c"), file("d"), file("e"));

function after(...steps: readonly SelectionStep[]): Selection {
  return steps.reduce((state, step) => select(state, step, five), NOTHING);
}

const click = (index: number, keys: { ctrl?: boolean; shift?: boolean } = {}): SelectionStep => ({
  kind: "click",
  index,
  from: 0,
  ctrl: keys.ctrl ?? false,
  shift: keys.shift ?? false,
});
const move = (from: number, index: number, shift = false): SelectionStep => ({
  kind: "move",
  index,
  from,
  ctrl: false,
  shift,
});
const check = (index: number, shift = false): SelectionStep => ({ kind: "check", index, from: 0, shift });
const selected = (state: Selection) => names(selectedRows(state, five)).join("");

describe("V3: selecting", () => {
  test("a click selects the row alone", () => {
    expect(selected(after(click(1), click(3)))).toBe("d");
  });

  test("a click with Ctrl adds a row or takes it away", () => {
    expect(selected(after(click(1), click(3, { ctrl: true })))).toBe("bd");
    expect(selected(after(click(1), click(3, { ctrl: true }), click(1, { ctrl: true })))).toBe("d");
  });

  test("a click with Shift selects from the last row that was clicked without it, either way", () => {
    expect(selected(after(click(1), click(3, { shift: true })))).toBe("bcd");
    expect(selected(after(click(3), click(4, { shift: true }), click(1, { shift: true })))).toBe("bcd");
  });

  test("a check box leaves the others alone, with Shift it adds a range", () => {
    expect(selected(after(check(0), check(2)))).toBe("ac");
    expect(selected(after(check(0), check(2), check(4, true)))).toBe("acde");
    expect(selected(after(check(0), check(0)))).toBe("");
  });

  test("an arrow key moves the mark only; with Shift it selects from where the mark was", () => {
    const moved = after(move(0, 1), move(1, 2));
    expect([selected(moved), moved.active]).toEqual(["", "c"]);
    expect(selected(after(move(0, 1), move(1, 2, true), move(2, 3, true)))).toBe("bcd");
    expect(selected(after(move(0, 1, true)))).toBe("ab");
  });

  test("all and none", () => {
    expect(selected(after({ kind: "all" }))).toBe("abcde");
    expect(selected(after({ kind: "all" }, { kind: "none" }))).toBe("");
  });

  test("what is no longer there is no longer selected", () => {
    const left = select(after({ kind: "all" }), { kind: "prune" }, five.slice(1, 3));
    expect(selected(left)).toBe("bc");
  });

  test("nothing selects an entry that cannot be copied", () => {
    const odd = row({ name: "x", kind: EntryKind.UNLISTABLE });
    const mixed = [...five, odd];
    for (const step of [click(5), check(5), { kind: "all" } as const, click(5, { ctrl: true })])
      expect(names(selectedRows(select(NOTHING, step, mixed), mixed))).not.toContain("x");
  });

  test("two rows that look alike are told apart by their bytes", () => {
    const twins = [row(file("caf\\xe9")), row({ ...file("caf\\xe9"), rawName: Uint8Array.of(0x63, 0x61, 0x66, 0xe9) })];
    const state = select(NOTHING, click(1), twins);
    expect(selectedRows(state, twins)).toEqual([twins[1]]);
  });
});
