// What the tests of pages look at; read in front of each question.
await chartsDrawn;
const at = (id) => document.getElementById(id);
const drawn = (id, marks) => [...at(id).querySelectorAll(marks)];
const lines = (id) => drawn(id, ".mark-line path").map((path) => path.getAttribute("d"));
const numbers = (id) => drawn(id, ".mark-text.role-mark text").map((text) => text.textContent);

async function set(control, value) {
  at(control).value = value;
  at(control).dispatchEvent(new Event("input"));
  await new Promise((resolve) => setTimeout(resolve, 300));
}

// What is told when one points at a round of a chart: pairs of name and value.
function told(id, round) {
  const cells = drawn(id, ".mark-path[class*=voronoi] path");
  const cell = cells.find((path) => path.__data__.datum.datum.round === round);
  const { x, y, width, height } = cell.getBoundingClientRect();
  const place = { clientX: x + width / 2, clientY: y + height / 2 };
  cell.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, ...place }));
  const rows = document.querySelectorAll("#vg-tooltip-element tr");
  return [...rows].map((row) => [...row.cells].map((value) => value.textContent));
}

const SHAPES = ".mark-line path, .mark-rect path, .mark-area path, .mark-rule line";
const charts = Object.fromEntries([...document.querySelectorAll("[data-chart]")].map((chart) => {
  const { width, height } = chart.querySelector("svg").getBoundingClientRect();
  const words = chart.getAttribute("aria-label");
  return [chart.id, { width, height, marks: chart.querySelectorAll(SHAPES).length, words }];
}));
