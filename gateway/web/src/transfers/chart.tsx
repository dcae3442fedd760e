/** The throughput of the last two minutes. Loaded when it is first shown: with it comes a library. */
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { rate } from "../format";
import { words } from "../words";
import { throughput } from "./live";
import { timeRange } from "./throughput";

export interface ChartProps {
  /** Changes with each measurement. */
  readonly measured: number;
  readonly bytesPerSecond: number;
}

export default function Chart({ measured, bytesPerSecond }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const size = () => ({ width: element.clientWidth, height: element.clientHeight });
    const made = new uPlot({ ...options(), ...size() }, aligned(), element);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize(size()));
    resized.observe(element);
    // The canvas knows colours only while it draws.
    const themed = new MutationObserver(() => made.redraw());
    themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      resized.disconnect();
      themed.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the measurement is the occasion
  useEffect(() => plot.current?.setData(aligned()), [measured]);

  return <div ref={box} className="chart" role="img" aria-label={words.transfers.throughputOf(rate(bytesPerSecond))} />;
}

function aligned(): uPlot.AlignedData {
  const [times, rates] = throughput.series;
  return [times, rates];
}

/** What the axis goes up to while next to nothing moves. */
const LEAST_TOP = 1e6;

function options(): Omit<uPlot.Options, "width" | "height"> {
  return {
    legend: { show: false },
    cursor: { show: false },
    padding: [10, 14, 0, 0],
    scales: {
      x: { range: () => timeRange(Date.now()) },
      y: { range: (_plot, _least, most) => [0, Math.max(LEAST_TOP, (most ?? 0) * 1.15)] },
    },
    axes: [
      axis({ space: 90, size: 24, grid: { show: false }, values: (_plot, times) => times.map(clock) }),
      axis({ space: 34, size: 68, values: (_plot, rates) => rates.map((value) => (value === 0 ? "0" : rate(value))) }),
    ],
    series: [
      {},
      { stroke: () => token("--accent"), width: 1.75, points: { show: false }, fill: gradient, spanGaps: false },
    ],
  };
}

function axis(changes: uPlot.Axis): uPlot.Axis {
  return {
    stroke: () => token("--text-3"),
    font: `11px ${token("--font")}`,
    grid: { stroke: () => token("--line"), width: 1 },
    ticks: { show: false },
    ...changes,
  };
}

function gradient({ ctx, bbox }: uPlot): CanvasGradient {
  const filled = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
  filled.addColorStop(0, token("--accent-fill"));
  filled.addColorStop(1, "transparent");
  return filled;
}

function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function clock(seconds: number): string {
  return clockFormat.format(seconds * 1000);
}
