// @ts-check
// Pictures of figures. Courses and survival curves by uPlot; what is small or has bars by SVG. Each says in words what it
// shows, for who cannot see it.

import { el, svg } from "./dom.js";
import { color } from "./theme.js";
import { bytes, count, duration, figure, percent } from "./words.js";
import UPlot from "./uplot.js";

/** @typedef {"count" | "rate" | "bytes" | "share"} Unit */
/** @typedef {[number, number][]} Points */

/** @param {Unit} unit @param {number} value */
function text(unit, value) {
  switch (unit) {
    case "count": return Number.isInteger(value) ? count(value) : figure(value);
    case "rate": return `${figure(value)}/s`;
    case "bytes": return bytes(value);
    case "share": return percent(value);
  }
}

/**
 * A chart that is in the document.
 * @typedef {object} Drawn
 * @property {HTMLElement} figure
 * @property {string} shape charts of one shape differ in their figures alone
 * @property {() => void} draw in the colours of now
 * @property {() => void} drop
 * @property {(data: (number | null)[][], words: string) => void} set
 */

/** Steps of axes: nobody is half alive, and people count bytes and seconds by other numbers than by ten. */
const COUNTS = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
const BYTES = Array.from({ length: 50 }, (_, power) => 2 ** power);
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];

/**
 * Charts of a view. They are drawn again in other colours, follow the width of their place, and are taken down together.
 */
export class Charts {
  constructor() {
    /** By title. @type {Map<string, Drawn>} */
    this.all = new Map();
  }

  /** In the colours of now. */
  recolor() {
    for (const chart of this.all.values()) chart.draw();
  }

  drop() {
    for (const chart of this.all.values()) chart.drop();
    this.all.clear();
  }

  /**
   * Figures over time, seconds since attach; the newest is on the right and is called "now".
   * @param {string} title
   * @param {Unit} unit
   * @param {{ name: string, points: Points }[]} lines one or two
   */
  course(title, unit, lines) {
    const known = lines.filter((line) => line.points.length > 1);
    if (known.length === 0) return figureOf(title, "", null, "Not known yet: it takes two looks to draw a line.");
    const end = Math.max(...known.map((line) => line.points.at(-1)?.[0] ?? 0));
    const times = [...new Set(known.flatMap((line) => line.points.map(([at]) => at)))].sort((a, b) => a - b);
    const values = known.map((line) => {
      const at = new Map(line.points);
      return times.map((time) => at.get(time) ?? null);
    });
    const ago = (/** @type {number} */ seconds) => (seconds > -0.5 ? "now" : `-${duration(-seconds)}`);
    return this.chart({
      title,
      words: known.map((line) => inWords(line.name, line.points, unit)).join("; "),
      legend: known.map((line) => line.name),
      data: [times.map((time) => time - end), ...values],
      x: { incrs: SECONDS, text: ago, log: false },
      unit,
      bars: null,
    });
  }

  /**
   * The share of tasks that outlives an age.
   * @param {Points} steps
   * @param {{ share: number, interval: [number, number] | null } | null} plateau share that never ends
   */
  survival(steps, plateau) {
    const title = "Share that outlives an age";
    // Of the ages that all of them outlive the last one tells enough.
    const falls = steps.findIndex(([, share]) => share < 1);
    if (steps.length > 0 && falls < 0) {
      return figureOf(title, "", null, `All of them: none has ended so far, and the oldest is ${duration(steps.at(-1)?.[0] ?? 0)} old at least.`);
    }
    const shown = steps.slice(Math.max(0, falls - 2)).filter(([age]) => age > 0);
    if (shown.length < 2) return figureOf(title, "", null, "Not known yet: too few tasks have ended or grown old.");
    const never = plateau === null ? "" : `; ${percent(plateau.share)} never end`;
    const flat = (/** @type {number} */ value) => shown.map(() => value);
    const data = [shown.map(([age]) => age), shown.map(([, share]) => share)];
    const legend = ["outlives it"];
    if (plateau) {
      data.push(flat(plateau.share));
      legend.push(plateau.interval ? "never ends, 95 % interval" : "never ends");
      if (plateau.interval) data.push(flat(plateau.interval[1]), flat(plateau.interval[0]));
    }
    const [last, share] = /** @type {[number, number]} */ (shown.at(-1));
    return this.chart({
      title,
      words: `${percent(share)} are older than ${duration(last)} or still alive then${never}`,
      legend,
      data,
      x: { incrs: undefined, text: duration, log: true },
      unit: "share",
      bars: plateau?.interval ? [3, 4] : null,
    });
  }

  /**
   * @param {object} what
   * @param {string} what.title
   * @param {string} what.words
   * @param {string[]} what.legend
   * @param {(number | null)[][]} what.data times or ages, then one list a line
   * @param {{ incrs: number[] | undefined, text: (value: number) => string, log: boolean }} what.x
   * @param {Unit} what.unit
   * @param {[number, number] | null} what.bars lines between which is a band
   */
  chart({ title, words, legend, data, x, unit, bars }) {
    const shape = JSON.stringify([legend, data.length, bars]);
    const known = this.all.get(title);
    if (known?.shape === shape) {
      known.set(data, words);
      return known.figure;
    }
    known?.drop();
    const place = el("div", { class: "plot" });
    const read = el("span", { class: "read" });
    /** @type {UPlot | null} */
    let plot = null;
    const stepped = UPlot.paths.stepped?.({ align: 1 });
    const say = (/** @type {string} */ said) => place.setAttribute("aria-label", `${title}: ${said}`);
    const draw = () => {
      plot?.destroy();
      const [curve, second, line, soft] = ["curve", "second", "line", "soft"].map(color);
      const strokes = [curve, second, "transparent", "transparent"];
      const decades = (/** @type {UPlot} */ _plot, /** @type {number[]} */ splits) =>
        splits.map((at) => (!x.log || Number.isInteger(Number(Math.log10(at).toFixed(9))) ? at : null));
      const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
      plot = new UPlot({
        width: Math.max(place.clientWidth, 160),
        height: 170,
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
        scales: {
          x: { time: false, distr: x.log ? 3 : 1 },
          y: { range: (_plot, _min, max) => [0, unit === "share" ? 1.02 : Math.max(max * 1.08, unit === "rate" ? 0.1 : 2)] },
        },
        axes: [
          { ...axis, grid: { ...axis.grid, filter: decades }, ticks: { ...axis.ticks, filter: decades }, filter: decades, space: 70, ...(x.incrs ? { incrs: x.incrs } : {}), values: (_plot, ticks) => ticks.map((tick) => (tick === null ? "" : x.text(tick))) },
          { ...axis, size: 66, ...(unit === "bytes" ? { incrs: BYTES } : unit === "count" ? { incrs: COUNTS } : {}), values: (_plot, ticks) => ticks.map((tick) => text(unit, tick)) },
        ],
        series: [
          {},
          ...data.slice(1).map((_, index) => ({
            stroke: strokes[index],
            width: index < 2 ? 2 : 0,
            ...(index === 1 ? { dash: [6, 4] } : {}),
            ...(index === 0 ? { fill: `${curve}1f` } : {}),
            ...(x.log && index === 0 && stepped ? { paths: stepped } : {}),
            points: { show: false },
            spanGaps: true,
          })),
        ],
        bands: bars ? [{ series: bars, fill: `${second}2e` }] : [],
        hooks: {
          setCursor: [(/** @type {UPlot} */ self) => {
            const at = self.cursor.idx;
            const known = at === null || at === undefined ? [] : legend.map((_, index) => data[index + 1]?.[at] ?? null);
            read.textContent = at === null || at === undefined ? "" :
              `${x.text(data[0]?.[at] ?? 0)}: ${known.map((value) => (value === null ? "?" : text(unit, value))).join(", ")}`;
          }],
        },
      }, /** @type {UPlot.AlignedData} */ (data), place);
    };
    const size = new ResizeObserver(() => {
      if (!plot) draw();
      else plot.setSize({ width: Math.max(place.clientWidth, 160), height: 170 });
    });
    size.observe(place);
    place.setAttribute("role", "img");
    say(words);
    const kinds = legend.length > 1 ? `${legend[0]} (line), ${legend[1]} (dashed)` : "";
    const figure = figureOf(title, kinds, read, place);
    this.all.set(title, {
      figure,
      shape,
      draw,
      drop: () => {
        size.disconnect();
        plot?.destroy();
      },
      set: (newer, said) => {
        data = newer;
        say(said);
        plot?.setData(/** @type {UPlot.AlignedData} */ (data));
      },
    });
    return figure;
  }
}

/** @param {string} title @param {string} legend @param {HTMLElement | null} read @param {HTMLElement | string} content */
function figureOf(title, legend, read, content) {
  const body = typeof content === "string" ? el("p", { class: "soft" }, content) : content;
  return el("figure", {}, el("figcaption", {}, title, " ", el("span", { class: "soft" }, legend), read), body);
}

/** @param {string} name @param {Points} points @param {Unit} unit */
function inWords(name, points, unit) {
  const values = points.map(([, value]) => value);
  const [first, last] = [values[0] ?? 0, values.at(-1) ?? 0];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${name} ${text(unit, first)} at first, ${text(unit, last)} now, between ${text(unit, least)} and ${text(unit, most)}`;
}

/** How fast a total grows between its moments. @param {Points} totals */
export function perSecond(totals) {
  /** @type {Points} */
  const rates = [];
  for (let index = 1; index < totals.length; index += 1) {
    const [[before, less], [after, more]] = /** @type {[[number, number], [number, number]]} */ ([totals[index - 1], totals[index]]);
    if (after > before) rates.push([after, Math.max(0, more - less) / (after - before)]);
  }
  return rates;
}

/**
 * Lifetimes of the ended and ages of the live ones, counted by half octave.
 * @param {string} noun
 * @param {Points} ended least seconds, and how many
 * @param {Points | null} alive
 */
export function lifetimes(noun, ended, alive) {
  const all = [...ended, ...(alive ?? [])].filter(([from]) => from > 0);
  const title = "How long they live";
  if (all.length === 0) return figureOf(title, "", null, "Not known yet: none has ended, and no age is known.");
  const [width, height, left, bottom] = [560, 170, 8, 22];
  // Half octaves of nanoseconds: from a power of two to one and a half of it, and from there to the next.
  const octave = (/** @type {number} */ at) => Math.log2(Number.isInteger(Math.log2(Math.round(at * 1e9))) ? 3 / 2 : 4 / 3);
  const [youngest, oldest] = [Math.min(...all.map(([at]) => at)), Math.max(...all.map(([at]) => at))];
  const from = Math.log2(youngest);
  const to = Math.log2(oldest) + octave(oldest);
  const most = Math.max(...all.map(([, tasks]) => tasks));
  const x = (/** @type {number} */ log) => left + ((log - from) / (to - from)) * (width - 2 * left);
  const bars = (/** @type {Points} */ points, /** @type {string} */ kind) => points.filter(([at]) => at > 0).map(([at, tasks]) => {
    const log = Math.log2(at);
    const tall = (tasks / most) * (height - bottom - 8);
    return svg("rect", { class: kind, x: x(log) + 0.5, width: Math.max(x(log + octave(at)) - x(log) - 1, 1), y: height - bottom - tall, height: tall });
  });
  const ticks = [0, 0.5, 1].map((share) => svg("text", {
    x: left + share * (width - 2 * left), y: height - 6, class: ["", "middle", "end"][share * 2] ?? "",
  }, duration(2 ** (from + share * (to - from)))));
  const sum = (/** @type {Points} */ points) => points.reduce((tasks, [, more]) => tasks + more, 0);
  const living = alive === null ? "ages of the live ones are not known" : `${count(sum(alive))} alive by age`;
  const words = `${count(sum(ended), noun)} ended by lifetime, ${living}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${words}` },
    svg("path", { class: "grid", d: `M${left} ${height - bottom}H${width - left}` }),
    ...bars(ended, "bars"), ...bars(alive ?? [], "bars-second"), ...ticks);
  return el("figure", {}, el("figcaption", {}, title, " ", el("span", { class: "soft" }, `${words} (outlined)`)), picture);
}

/** A curve for a row of a table; without words: the row has the figures. @param {Points} points */
export function spark(points) {
  const [width, height] = [120, 26];
  const picture = svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (points.length < 2) return picture;
  const [begin, end] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
  const values = points.map(([, value]) => value);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  // A wobble by one of a thousand is no mountain.
  const low = Math.max(0, least - Math.max((most - least) * 0.1, most * 0.05));
  const span = Math.max(most - low, 1);
  const line = points.map(([at, value]) => {
    const x = ((at - begin) / Math.max(end - begin, 1e-9)) * (width - 2) + 1;
    return `${x.toFixed(1)} ${(height - 2 - ((value - low) / span) * (height - 4)).toFixed(1)}`;
  }).join("L");
  picture.append(svg("path", { class: "area", d: `M${line}L${width - 1} ${height}L1 ${height}Z` }), svg("path", { class: "curve", d: `M${line}` }));
  return picture;
}
