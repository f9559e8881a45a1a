(function () {
  "use strict";

  const NARROW = 620; // pixels below which panels stand one below the other
  const PANEL = 230; // pixels of a panel that stands alone
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touched = window.matchMedia("(pointer: coarse)");
  const drawings = new Map(); // element -> {figure, narrow}

  function theme(printing) {
    return themes[dark.matches && !printing ? "dark" : "light"];
  }

  // Panels of a figure one below the other, or as they were made.
  function arranged(figure, narrow) {
    const update = {};
    const layout = figure.layout;
    const panels = Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name));
    panels.sort((a, b) => (parseInt(a.slice(5), 10) || 1) - (parseInt(b.slice(5), 10) || 1));
    panels.forEach((name, place) => {
      const other = name.replace("x", "y");
      const gap = 0.3 / panels.length;
      const height = (1 - gap * (panels.length - 1)) / panels.length;
      const bottom = 1 - height - place * (height + gap);
      update[name + ".domain"] = narrow ? [0, 1] : layout[name].domain;
      update[other + ".domain"] = narrow ? [Math.max(0, bottom), Math.min(1, bottom + height)] : layout[other].domain;
    });
    update.height = narrow ? 60 + PANEL * panels.length : layout.height;
    return update;
  }

  function stacks(element, figure) {
    return element.hasAttribute("data-stacks") && "xaxis2" in figure.layout;
  }

  function draw(element) {
    if (drawings.has(element)) {
      return;
    }
    const source = element.closest("figure").querySelector("script").textContent;
    const figure = JSON.parse(source);
    const shown = JSON.parse(source);
    const narrow = element.clientWidth < NARROW;
    drawings.set(element, { figure, narrow });
    shown.layout.template = theme(false);
    shown.layout.dragmode = touched.matches ? false : "zoom"; // a finger on a figure scrolls the page
    const config = { displaylogo: false, displayModeBar: narrow ? false : "hover" };
    Plotly.newPlot(element, shown.data, shown.layout, config).then(() => {
      if (narrow && stacks(element, figure)) {
        rearrange(element, figure, true);
      }
      sizes.observe(element);
    });
  }

  function rearrange(element, figure, narrow) {
    const update = arranged(figure, narrow);
    element.style.height = update.height + "px";
    Plotly.relayout(element, update).then(() => Plotly.Plots.resize(element));
  }

  function open(element) {
    const folded = element.closest("details");
    return !folded || folded.open;
  }

  function drawNext(waiting) {
    const element = waiting.shift();
    if (element) {
      draw(element);
      setTimeout(drawNext, 0, waiting); // so that the page stays alive meanwhile
    }
  }

  function recolour(printing) {
    drawings.forEach((_, element) => Plotly.relayout(element, { template: theme(printing) }));
  }

  // A figure follows the width of its place: that changes with the window, and when it is printed.
  const sizes = new ResizeObserver((entries) => {
    entries.forEach(({ target }) => {
      const state = drawings.get(target);
      const narrow = target.clientWidth < NARROW;
      if (!target.clientWidth) {
        return; // it was folded
      }
      if (narrow !== state.narrow && stacks(target, state.figure)) {
        state.narrow = narrow;
        rearrange(target, state.figure, narrow);
      } else if (Math.abs(target.clientWidth - target._fullLayout.width) > 1) {
        Plotly.Plots.resize(target);
      }
    });
  });

  // Tables.

  function value(row, column) {
    const cell = row.cells[column];
    const order = cell.hasAttribute("data-order") ? cell.getAttribute("data-order") : cell.textContent.trim();
    const number = order === "inf" ? Infinity : order === "-inf" ? -Infinity : Number(order);
    return order === "" || Number.isNaN(number) ? order : number;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") {
      return a < b ? -1 : a > b ? 1 : 0;
    }
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  function sort(table, column) {
    const heads = table.tHead.rows[0].cells;
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    Array.from(heads).forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => (up ? 1 : -1) * compare(value(a, column), value(b, column)));
    rows.forEach((row) => table.tBodies[0].appendChild(row));
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th button").forEach((button, column) => {
      button.addEventListener("click", () => sort(table, column));
    });
  });

  document.querySelectorAll("details").forEach((details) => {
    details.addEventListener("toggle", () => {
      if (details.open) {
        details.querySelectorAll(".drawing").forEach(draw);
      }
    });
  });

  const everything = Array.from(document.querySelectorAll(".drawing"));
  dark.addEventListener("change", () => recolour(false));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    everything.forEach(draw);
    recolour(true);
  });
  window.addEventListener("afterprint", () => recolour(false));
  drawNext(everything.filter(open));
})();
