import { describe, expect, test } from "vitest";
import { copyRequest, MOST_ITEMS, refusalOf } from "../../../src/files/copying";
import { pathOf } from "../../../src/files/path";
import { OverwritePolicy } from "../../../src/gen/wherry/queue/v1/job_service_pb";
import { file, folder, rawFile, rows } from "../../fakes/entries";

const from = { site: "sites/a", path: pathOf("/data") };
const to = { site: "sites/b", path: pathOf("/in/box") };

describe("V9: a copy", () => {
  test("is one job, however much is selected, that gives each thing its exact path and touches nothing", () => {
    const request = copyRequest({ from, to, rows: rows(file("a"), folder("d")) }, "an-id");
    expect(request.requestId).toBe("an-id");
    const operation = request.job?.operation;
    if (operation?.case !== "copy") throw new Error("no copy");
    expect(operation.value.recursive).toBe(true);
    expect(operation.value.overwrite).toBe(OverwritePolicy.NEVER);
    expect(operation.value.items.map(({ source, destination }) => [source?.path, destination?.path])).toEqual([
      ["/data/a", "/in/box/a"],
      ["/data/d", "/in/box/d"],
    ]);
    expect(operation.value.items[0]?.source?.site).toBe("sites/a");
    expect(operation.value.items[0]?.destination?.site).toBe("sites/b");
  });

  test("carries a name that is no UTF-8 as its bytes, at both ends", () => {
    const request = copyRequest({ from, to, rows: rows(rawFile()) }, "");
    const operation = request.job?.operation;
    if (operation?.case !== "copy") throw new Error("no copy");
    const [item] = operation.value.items;
    const name = [0x63, 0x61, 0x66, 0xe9];
    expect([...(item?.source?.rawPath ?? [])].slice(-4)).toEqual(name);
    expect([...(item?.destination?.rawPath ?? [])].slice(-4)).toEqual(name);
  });

  test("of as much as a job takes is made, of more it is refused", () => {
    const many = Array.from({ length: MOST_ITEMS + 1 }, (_, index) => file(`f${index}`));
    expect(refusalOf({ from, to, rows: rows(...many.slice(1)) })).toBeUndefined();
    expect(refusalOf({ from, to, rows: rows(...many) })).toEqual({ kind: "tooMany", count: 1001 });
  });

  test("of nothing, to where it is, or of a folder into itself is refused", () => {
    const one = rows(folder("d"), file("dd"));
    expect(refusalOf({ from, to, rows: [] })).toEqual({ kind: "nothing" });
    expect(refusalOf({ from, to: from, rows: one })).toEqual({ kind: "samePlace" });
    const within = { site: "sites/a", path: pathOf("/data/d/e") };
    expect(refusalOf({ from, to: within, rows: one })).toEqual({ kind: "intoItself", name: "d" });
  });

  test("to a folder whose name only begins alike, or that has the same path elsewhere, is made", () => {
    const beside = { site: "sites/a", path: pathOf("/data/dd-2") };
    expect(refusalOf({ from, to: beside, rows: rows(folder("d")) })).toBeUndefined();
    expect(refusalOf({ from, to: { ...from, site: "sites/b" }, rows: rows(folder("d")) })).toBeUndefined();
  });
});
