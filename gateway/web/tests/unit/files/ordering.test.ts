import { describe, expect, test } from "vitest";
import { BY_NAME, nameFilter, type Order, orderAfterClick, RowView } from "../../../src/files/order";
import type { Row } from "../../../src/files/row";
import { file, folder, names, row, rows } from "../../fakes/entries";

function shown(source: readonly Row[], order: Order = BY_NAME, filter = "", withHidden = false) {
  return names(new RowView(order, filter, withHidden).of(source, source.length));
}

const some = rows(
  file("run10.h5", 5, 30),
  file("Run2.h5", 9, 10),
  folder("zeta", 1),
  file(".hidden", 1, 99),
  file("run1.h5", 7, 20),
  folder("alpha", 2),
);

describe("V4: rows are shown", () => {
  test("folders first, by name as people count, upper and lower case alike, hidden ones left out", () => {
    expect(shown(some)).toEqual(["alpha", "zeta", "run1.h5", "Run2.h5", "run10.h5"]);
  });

  test("by size and by time", () => {
    const bySize = shown(some, { column: "size", ascending: false });
    expect(bySize).toEqual(["alpha", "zeta", "Run2.h5", "run1.h5", "run10.h5"]);
    const byTime = shown(some, { column: "modified", ascending: true });
    expect(byTime).toEqual(["zeta", "alpha", "Run2.h5", "run1.h5", "run10.h5"]);
  });

  test("with hidden ones when they are wanted", () => {
    expect(shown(some, BY_NAME, "", true)).toContain(".hidden");
  });

  test("filtered by a part of the name, or by a pattern", () => {
    expect(shown(some, BY_NAME, "RUN1")).toEqual(["run1.h5", "run10.h5"]);
    expect(shown(some, BY_NAME, "run?.h5")).toEqual(["run1.h5", "Run2.h5"]);
    expect(nameFilter("a.b*")("axbc")).toBe(false);
  });

  test("with accents where the letters are that have them", () => {
    expect(shown(rows(file("zoo"), file("éclair"), file("eclipse")))).toEqual(["éclair", "eclipse", "zoo"]);
  });

  test("very long numbers still count", () => {
    const long = `run${"9".repeat(40)}`;
    expect(shown(rows(file(`run1${"0".repeat(40)}`), file(long)))).toEqual([long, `run1${"0".repeat(40)}`]);
  });

  test("a click on another column shows the biggest and the newest first, a second click turns that round", () => {
    const once = orderAfterClick(BY_NAME, "size");
    expect(once).toEqual({ column: "size", ascending: false });
    expect(orderAfterClick(once, "size")).toEqual({ column: "size", ascending: true });
  });
});

describe("V6: a listing that grows", () => {
  const source = Array.from({ length: 30 }, (_, index) => row(file(`f${(index * 7) % 30}`)));

  test("batch by batch comes out as if it were sorted at once", () => {
    const view = new RowView(BY_NAME, "", false);
    for (const count of [4, 4, 11, 30]) view.of(source, count);
    expect(names(view.of(source, 30))).toEqual(shown(source));
  });

  test("is the same array while nothing is new", () => {
    const view = new RowView(BY_NAME, "", false);
    expect(view.of(source, 10)).toBe(view.of(source, 10));
  });

  test("begins anew with another listing", () => {
    const view = new RowView(BY_NAME, "", false);
    view.of(source, 30);
    expect(names(view.of(rows(file("only")), 1))).toEqual(["only"]);
  });
});
