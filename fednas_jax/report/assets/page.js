// Draws the charts that the page carries, and lets its sliders and choices set their signals.
"use strict";
(() => {
  const { specs, datasets } = JSON.parse(document.getElementById("charts").textContent);
  const font = getComputedStyle(document.body).fontFamily;
  const text = { labelColor: "currentColor", titleColor: "currentColor" };
  const config = {
    background: null,
    font,
    axis: {
      ...text, domainColor: "currentColor", domainOpacity: 0.3, tickColor: "currentColor", tickOpacity: 0.3,
      gridColor: "currentColor", gridOpacity: 0.12, labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500,
    },
    axisX: { labelSeparation: 4 },
    // For charts that draw a legend of their own; in one column it fits a phone.
    legend: { ...text, orient: "top", columns: innerWidth < 500 ? 1 : 2, labelLimit: 260, labelFontSize: 12, symbolStrokeWidth: 3, symbolType: "stroke" },
    line: { strokeWidth: 2.5 },
    view: { stroke: null },
  };
  const options = { actions: false, renderer: "svg", config };

  async function draw(id) {
    const element = document.getElementById(id);
    const spec = { ...specs[id], datasets };
    return (await vegaEmbed(element, spec, options)).view;
  }

  const views = Object.fromEntries(Object.keys(specs).map((id) => [id, draw(id)]));

  function listen(control, value) {
    control.addEventListener("input", async () => {
      const chosen = value(control);
      await Promise.all(control.dataset.charts.split(" ").map(
        async (id) => (await views[id]).signal(control.dataset.signal, chosen).runAsync(),
      ));
    });
  }

  for (const slider of document.querySelectorAll("input[data-signal]")) {
    const marks = JSON.parse(slider.dataset.marks), texts = JSON.parse(slider.dataset.texts);
    const shown = [slider.parentElement.querySelector("output"), ...document.querySelectorAll(`[data-follows="${slider.id}"]`)];
    listen(slider, () => {
      const text = texts[Number(slider.value)];
      for (const element of shown) element.textContent = text;
      slider.setAttribute("aria-valuetext", text);
      return marks[Number(slider.value)];
    });
  }
  for (const choice of document.querySelectorAll("select[data-signal]")) {
    listen(choice, () => JSON.parse(choice.value));
  }
  // For whoever waits until all is drawn, as the tests do.
  window.chartsDrawn = Promise.all(Object.values(views));
})();
