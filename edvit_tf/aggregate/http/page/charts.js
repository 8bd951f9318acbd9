// The last minutes, drawn by uPlot.
import {clear, element} from "./elements.js";

const SECONDS = 300;
const COLOURS = {  // told apart by those who see few colours, on either ground
  light: ["#2f5fd0", "#b3540e", "#1b7f5c", "#9a3a94", "#6b6b00", "#b02a3c", "#00788a", "#5d5d5d"],
  dark: ["#8fb0ff", "#ffb073", "#6fdcae", "#eda0e6", "#d9d95c", "#ff97a3", "#6fd6e6", "#c8c8c8"],
};
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export class Charts {
  constructor(byId) {
    this.byId = byId;
    this.names = [];
    this.rows = [];
    this.plots = {};
    dark.addEventListener("change", () => this.build());
    new ResizeObserver(() => this.resize()).observe(byId("latency"));
  }

  draw(rows, devices) {
    this.rows = rows;
    const names = devices ? devices.map((device) => device.device) : this.names;
    if (names.join("\n") !== this.names.join("\n") || !this.plots.latency) {
      this.names = names;
      this.build();
    }
    this.fill();
  }

  build() {
    const colours = COLOURS[dark.matches ? "dark" : "light"];
    const colour = (i) => colours[i % colours.length];
    Object.values(this.plots).forEach((plot) => plot.destroy());
    this.plots = {
      latency: this.plot("latency", this.names.map((name, i) => [name, colour(i)])),
      rate: this.plot("rate", [["answered", colour(0)], ["refused", colour(5)]]),
      degraded: this.plot("degraded", [["degraded", colour(1)]]),
    };
    const legend = this.byId("legend");
    clear(legend);
    this.names.forEach((name, i) => legend.append(legendItem(name, colour(i))));
    this.fill();
  }

  plot(id, series) {
    const style = getComputedStyle(document.body);
    const axis = {
      stroke: style.getPropertyValue("--quiet"),
      grid: {stroke: style.getPropertyValue("--line"), width: 1},
      ticks: {stroke: style.getPropertyValue("--line"), width: 1},
      font: "11px system-ui, sans-serif",
    };
    const box = this.byId(id);
    return new window.uPlot({
      width: box.clientWidth || 300,
      height: 160,
      legend: {show: false},
      cursor: {show: false},
      series: [{}, ...series.map(([label, stroke]) => ({label, stroke, width: 2, spanGaps: false, points: {size: 3}}))],
      scales: {y: {range: (u, low, high) => [0, Math.max(id === "degraded" ? 5 : 1, 1.1 * (high || 0))]}},
      axes: [axis, {...axis, size: 44}],
    }, [[], ...series.map(() => [])], box);
  }

  fill() {
    const rows = this.rows;
    if (!this.plots.latency || rows.length === 0) return;
    const last = rows[rows.length - 1];
    const at = rows.map((row) => row.at);
    const share = rows.map((row) => (row.answered ? 100 * row.degraded / row.answered : null));
    this.plots.latency.setData([at, ...this.names.map((name) => rows.map((row) => row.devices[name] ?? null))]);
    this.plots.rate.setData([at, rows.map((row) => row.answered), rows.map((row) => row.refused)]);
    this.plots.degraded.setData([at, share]);
    for (const plot of Object.values(this.plots)) {
      plot.setScale("x", {min: Math.max(rows[0].at, last.at - SECONDS), max: Math.max(last.at, rows[0].at + 30)});
    }
    this.say(last);
  }

  // What the pictures show, in words.
  say(last) {
    const lately = this.rows.slice(-60);
    const sum = (key) => lately.reduce((total, row) => total + row[key], 0);
    const answered = sum("answered");
    const share = answered ? `${(100 * sum("degraded") / answered).toFixed(1)} %` : "none";
    const middle = last.p50_ms === null ? "no answer" : `${last.p50_ms.toFixed(1)} ms`;
    const numbers = this.byId("numbers");
    clear(numbers);
    for (const [value, what] of [
      [`${last.answered}/s`, "answered now"], [middle, "median now"],
      [`${(answered / lately.length).toFixed(1)}/s`, "over a minute"], [share, "degraded"], [`${sum("refused")}`, "refused"],
    ]) {
      const one = element("span", ` ${what}`);
      one.prepend(element("strong", value));
      numbers.append(one);
    }
    const ms = this.names.map((name) => `${name} ${last.devices[name] ?? "none"}`).join(", ");
    this.byId("latency").setAttribute("aria-label", `Milliseconds by device in the last second: ${ms}`);
    this.byId("rate").setAttribute("aria-label", `${last.answered} answered and ${last.refused} refused in the last second`);
    this.byId("degraded").setAttribute("aria-label", `Degraded in the last minute: ${share}`);
  }

  resize() {
    for (const [id, plot] of Object.entries(this.plots)) {
      plot.setSize({width: this.byId(id).clientWidth || 300, height: 160});
    }
  }
}

function legendItem(name, colour) {
  const item = element("li");
  const space = "http://www.w3.org/2000/svg";
  const mark = document.createElementNS(space, "svg");
  const dot = document.createElementNS(space, "circle");
  for (const [key, value] of [["cx", "50%"], ["cy", "50%"], ["r", "45%"], ["fill", colour]]) dot.setAttribute(key, value);
  mark.setAttribute("aria-hidden", "true");
  mark.append(dot);
  item.append(mark);
  item.append(name);
  return item;
}
