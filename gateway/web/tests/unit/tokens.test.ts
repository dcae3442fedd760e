import { describe, expect, test } from "vitest";
import tokens from "../../src/styles/tokens.css?raw";

type Colour = readonly [r: number, g: number, b: number];

/** The custom properties of a theme: those of the dark one stand over the light ones. */
function themed(dark: boolean): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, selector, body] of tokens.matchAll(/^(:root|\[data-theme="dark"\]) \{([^}]*)\}/gm))
    if (selector === ":root" || dark)
      for (const [, name, value] of (body ?? "").matchAll(/(--[\w-]+):\s*([^;]+);/g))
        found.set(name ?? "", value ?? "");
  return found;
}

function colour(theme: Map<string, string>, name: string): Colour {
  const written = (theme.get(name) ?? "").replace(/var\((--[\w-]+)\)/g, (_, inner: string) => theme.get(inner) ?? "");
  const [l, c, h] = [...written.matchAll(/[\d.]+/g)].map(Number);
  if (l === undefined || c === undefined || h === undefined) throw new Error(`${name} is no colour: ${written}`);
  return linear(l, c, (h * Math.PI) / 180);
}

/** OKLCH to linear sRGB, cut to what a screen shows (https://bottosson.github.io/posts/oklab/). */
function linear(lightness: number, chroma: number, hue: number): Colour {
  const [a, b] = [chroma * Math.cos(hue), chroma * Math.sin(hue)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const shown = (x: number) => Math.min(1, Math.max(0, x));
  return [
    shown(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    shown(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    shown(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

/** WCAG 2.2, "contrast ratio". */
function contrast(one: Colour, other: Colour): number {
  const light = ([r, g, b]: Colour) => 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  const [a, b] = [light(one), light(other)];
  return Math.max(a, b) / Math.min(a, b);
}

const GROUNDS = ["--bg", "--surface", "--surface-2", "--hover", "--sel", "--sel-h"];
const SITES = Array.from({ length: 8 }, (_, n) => `--site-${n}`);
const TEXTS: [string, string[]][] = [
  ["--text", GROUNDS],
  ["--text-2", GROUNDS],
  ["--text-3", GROUNDS],
  ["--accent", ["--bg", "--surface", "--sel"]],
  ["--on-accent", ["--accent", "--accent-h"]],
  ["--ok", ["--surface", "--ok-bg"]],
  ["--warn", ["--surface", "--warn-bg"]],
  ["--err", ["--surface", "--surface-2", "--hover", "--err-bg"]],
  ...SITES.map((site): [string, string[]] => [`${site}-t`, ["--surface", `${site}-bg`]]),
];
const SHAPES: [string, string[]][] = [
  ["--focus", GROUNDS],
  ["--field-line", ["--surface", "--bg"]],
  ...SITES.map((site): [string, string[]] => [site, ["--surface"]]),
];

describe.each([
  ["light", false],
  ["dark", true],
])("in the %s theme", (_, dark) => {
  const theme = themed(dark);
  const pairs = (of: [string, string[]][]) =>
    of.flatMap(([front, backs]) => backs.map((back) => [front, back] as const));

  test.each(pairs(TEXTS))("text in %s can be read on %s (4.5)", (front, back) => {
    expect(contrast(colour(theme, front), colour(theme, back))).toBeGreaterThanOrEqual(4.5);
  });

  test.each(pairs(SHAPES))("a shape in %s can be seen on %s (3.0)", (front, back) => {
    expect(contrast(colour(theme, front), colour(theme, back))).toBeGreaterThanOrEqual(3);
  });
});
