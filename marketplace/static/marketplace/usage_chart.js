// Draws an app's spending from the numbers in the page; without it the table says the same.
"use strict";

(function () {
  const box = document.getElementById("usage-chart");
  const source = document.getElementById("usage-data");
  if (!box || !source || typeof uPlot === "undefined") return;
  const data = JSON.parse(source.textContent);
  const style = getComputedStyle(document.documentElement);
  const colour = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  const axis = { stroke: colour("--ic-muted", "#666"), grid: { stroke: colour("--ic-line", "#ddd") } };
  const LEAST_SECONDS = 3600; // an app that has just begun: uPlot itself would show years around two charges of one second
  const size = () => ({ width: box.clientWidth, height: 224 });
  const plot = new uPlot(
    {
      ...size(),
      series: [{}, { label: "USD", stroke: colour("--ic-accent", "#2a48c9"), width: 2 }],
      axes: [axis, { ...axis, size: 80 }],
      scales: {
        x: { range: (plot, from, to) => [Math.min(from, to - LEAST_SECONDS), to] },
        y: { range: (plot, from, to) => [0, to > 0 ? to * 1.1 : 1] },
      },
      cursor: { drag: { x: false, y: false } },
    },
    [data.times, data.dollars.map(Number)],
    box,
  );
  window.addEventListener("resize", () => plot.setSize(size()));
})();
