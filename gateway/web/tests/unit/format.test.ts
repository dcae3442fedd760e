import { expect, test } from "vitest";
import { bytes, count, duration, mode, plural, rate, when } from "../../src/format";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1_000, "1.0 KB"],
  [99_949, "99.9 KB"],
  [99_950, "100 KB"],
  [999_499, "999 KB"],
  [999_500, "1.0 MB"],
  [2_400_000_000, "2.4 GB"],
  [9_223_372_036_854_775_807n, "9.2 EB"],
])("a size of %s is written %s", (size, text) => {
  expect(bytes(size)).toBe(text);
});

test.each([
  [0.4, "0 s"],
  [59.4, "59 s"],
  [59.6, "1 min"],
  [3_599, "59 min"],
  [3_900, "1 h 05 m"],
  [90_000, "1 d 1 h"],
  [Number.POSITIVE_INFINITY, "–"],
])("%s seconds are written %s", (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});

test.each([
  [0o755, true, "drwxr-xr-x"],
  [0o640, false, "-rw-r-----"],
  [0o4755, false, "-rwsr-xr-x"],
  [0o1777, true, "drwxrwxrwt"],
  [0o2644, false, "-rw-r-Sr--"],
])("mode %o is written as ls does", (bits, directory, text) => {
  expect(mode(bits, directory)).toBe(text);
});

test("the year stands for the time of day in other years", () => {
  const now = new Date(2026, 10, 22, 12, 0).getTime();
  expect(when(new Date(2026, 10, 21, 18, 5).getTime(), now)).toBe("21 Nov 18:05");
  expect(when(new Date(2024, 8, 3, 18, 5).getTime(), now)).toBe("03 Sep 2024");
});

test("counts are grouped and nouns follow them", () => {
  expect(count(1_234_567)).toBe("1,234,567");
  expect(plural(1, "file")).toBe("1 file");
  expect(plural(2n, "entry", "entries")).toBe("2 entries");
  expect(rate(579_000_000)).toBe("579 MB/s");
});
