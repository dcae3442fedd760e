import { describe, expect, test } from "vitest";
import { base64Url, fromBase64Url, shownBytes, utf8 } from "../../../src/files/bytes";
import {
  childPath,
  crumbsOf,
  isWithin,
  lastName,
  nameKey,
  parentPath,
  pathBytes,
  pathKey,
  pathOf,
  pathOfBytes,
  ROOT,
} from "../../../src/files/path";
import { placeIn, withPlace } from "../../../src/files/places";
import { shownName } from "../../../src/files/shown";

const RAW_NAME = { name: "caf\\xe9", rawName: Uint8Array.of(0x63, 0x61, 0x66, 0xe9) };

describe("V1: a path", () => {
  test.each([
    ["/", "/a"],
    ["/data", "/data/a"],
  ])("%s has the child %s", (directory, child) => {
    expect(childPath(pathOf(directory), { name: "a" })).toEqual({ text: child });
  });

  test.each([
    ["/data/run 1", "/data"],
    ["/data", "/"],
    ["/", "/"],
  ])("%s has the parent %s", (path, parent) => {
    expect(parentPath(pathOf(path))).toEqual({ text: parent });
  });

  test("is cut into crumbs that lead to each directory above it", () => {
    const crumbs = crumbsOf(pathOf("/rds/projects/saxs"));
    expect(crumbs.map(({ label, path }) => [label, path.text])).toEqual([
      ["rds", "/rds"],
      ["projects", "/rds/projects"],
      ["saxs", "/rds/projects/saxs"],
    ]);
    expect(lastName(ROOT)).toBe("/");
  });

  test("lies within itself and what is above it, and not in a directory whose name only begins alike", () => {
    expect(isWithin(pathOf("/a/b"), pathOf("/a"))).toBe(true);
    expect(isWithin(pathOf("/a"), pathOf("/a"))).toBe(true);
    expect(isWithin(pathOf("/ab"), pathOf("/a"))).toBe(false);
    expect(isWithin(pathOf("/a"), pathOf("/a/b"))).toBe(false);
  });
});

describe("V1: a name that is no UTF-8", () => {
  const path = childPath(pathOf("/data"), RAW_NAME);

  test("keeps its bytes in the path, which shows them escaped", () => {
    expect(path.raw).toEqual(Uint8Array.of(...utf8("/data/caf"), 0xe9));
    expect(path.text).toBe("/data/caf\\xe9");
  });

  test("is another name than the text that shows it", () => {
    expect(nameKey(RAW_NAME)).not.toBe(nameKey({ name: "caf\\xe9" }));
    expect(pathKey(path)).not.toBe(pathKey(pathOf("/data/caf\\xe9")));
  });

  test("makes bytes of everything under it and text again of what is above it", () => {
    const below = childPath(path, { name: "ü" });
    expect(below.raw).toEqual(Uint8Array.of(...pathBytes(path), ...utf8("/ü")));
    expect(parentPath(path)).toEqual({ text: "/data" });
    expect(crumbsOf(below).map(({ path: each }) => each.raw !== undefined)).toEqual([false, true, true]);
  });

  test("is shown with what is text in it as text", () => {
    expect(shownBytes(Uint8Array.of(0xff, ...utf8("aü"), 0xc3))).toBe("\\xffaü\\xc3");
  });
});

describe("V1: the address", () => {
  test("gives back the places that were put into it", () => {
    const left = { site: "sites/a", path: pathOf("/with space/&+%/ü") };
    const right = { site: "sites/b", path: pathOfBytes(Uint8Array.of(0x2f, 0xff, 0x3e)) };
    const query = withPlace(withPlace(new URLSearchParams(), "left", left), "right", right).toString();
    const read = new URLSearchParams(query.replaceAll("%2F", "/"));
    expect(placeIn(read, "left")).toEqual(left);
    expect(placeIn(read, "right")).toEqual(right);
  });

  test("says nothing of a pane that has no site, or of one that cannot be", () => {
    expect(placeIn(new URLSearchParams("left-path=/x"), "left")).toBeUndefined();
    expect(placeIn(new URLSearchParams("left=../x"), "left")).toBeUndefined();
  });

  test("means the default path where it has none, and forgets the path of the site before", () => {
    const before = withPlace(new URLSearchParams(), "left", { site: "sites/a", path: pathOf("/x") });
    const after = withPlace(before, "left", { site: "sites/b", path: pathOf("") });
    expect(after.toString()).toBe("left=b");
    expect(placeIn(after, "left")).toEqual({ site: "sites/b", path: { text: "" } });
  });

  test("carries any bytes", () => {
    const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    expect(base64Url(all)).toMatch(/^[A-Za-z0-9_-]+$/);
    expect(fromBase64Url(base64Url(all))).toEqual(all);
    expect(fromBase64Url("%")).toBeUndefined();
  });
});

test("a name's control characters and turns of direction are made visible", () => {
  expect(shownName("a\nb\u202egpj.exe\u007f")).toBe("a␊b\\u202egpj.exe␡");
  expect(shownName("naïve 👩‍🔬.txt")).toBe("naïve 👩‍🔬.txt");
});
