// Draws Table 4 as bars from the numbers in the page; without it the table says the same.
"use strict";

(function () {
  const canvas = document.getElementById("allocation-chart");
  const source = document.getElementById("allocation-data");
  if (!canvas || !source || typeof Chart === "undefined") return;
  const shares = JSON.parse(source.textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  const values = {  // the number at the end of each bar
    id: "values",
    afterDatasetsDraw(chart) {
      const { ctx } = chart;
      ctx.save();
      ctx.fillStyle = colour("--ic-ink");
      ctx.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
      ctx.textBaseline = "middle";
      chart.getDatasetMeta(0).data.forEach((bar, place) => ctx.fillText(`${shares[place].percent} %`, bar.x + 8, bar.y));
      ctx.restore();
    },
  };
  const chart = new Chart(canvas, {
    type: "bar",
    data: {
      labels: shares.map((share) => (window.innerWidth < 600 ? share.name.split(" ") : share.name)),
      datasets: [{ data: shares.map((share) => share.percent), borderRadius: 4, maxBarThickness: 28 }],
    },
    options: {
      indexAxis: "y",
      animation: still ? false : { duration: 400 },
      maintainAspectRatio: false,
      layout: { padding: { right: 44 } },
      plugins: { legend: { display: false }, tooltip: { enabled: false } },
      scales: { x: { display: false, beginAtZero: true }, y: { grid: { display: false }, border: { display: false } } },
    },
    plugins: [values],
  });
  const paint = () => {
    chart.data.datasets[0].backgroundColor = colour("--ic-accent");
    chart.options.scales.y.ticks = { color: colour("--ic-ink"), font: { family: getComputedStyle(document.body).fontFamily, size: 13 } };
    chart.update();
  };
  dark.addEventListener("change", paint);
  paint();
})();
