// What a page can do beyond being read: switch its theme, tell numbers under the pointer, sort, filter.
(() => {
  "use strict";
  const page = document.body;

  // theme: what the reader chose, else what the system says
  const remember = (theme) => { try { localStorage.setItem("isograd-theme", theme); } catch { /* file:// may refuse */ } };
  try { page.dataset.theme = localStorage.getItem("isograd-theme") || ""; } catch { /* as the system says */ }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    page.dataset.theme = dark ? "light" : "dark";
    remember(page.dataset.theme);
  });

  // numbers under the pointer, a finger, or the arrow keys
  for (const area of document.querySelectorAll("[data-tips]")) {
    const tips = JSON.parse(area.dataset.tips);
    if (!tips.length) continue;
    const at = JSON.parse(area.dataset.at || "null") || tips.map((_, i) => (tips.length > 1 ? i / (tips.length - 1) : 0.5));
    const nearest = (part) => at.reduce((best, x, i) => (Math.abs(x - part) < Math.abs(at[best] - part) ? i : best), 0);
    const rows = area.dataset.along === "y";
    const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    const hair = Object.assign(document.createElement("div"), { className: "hair", hidden: true });
    tip.setAttribute("role", "status");
    area.append(hair, tip);
    area.tabIndex = 0;
    area.setAttribute("role", "group");
    area.setAttribute("aria-label", "Numbers, one by one, with the arrow keys");
    let place = -1;

    const tell = (index) => {
      place = Math.max(0, Math.min(tips.length - 1, index));
      const { width, height } = area.getBoundingClientRect();
      tip.textContent = tips[place];
      tip.hidden = hair.hidden = false;
      if (rows) {
        const y = ((place + 0.5) / tips.length) * height;
        Object.assign(hair.style, { left: 0, right: 0, top: `${y}px`, height: "1px" });
        Object.assign(tip.style, { left: `${Math.max(0, (width - tip.offsetWidth) / 2)}px`, top: `${y + 10}px` });
      } else {
        const x = at[place] * width;
        Object.assign(hair.style, { top: 0, bottom: 0, left: `${x}px`, width: "1px" });
        const left = Math.max(-40, Math.min(x - tip.offsetWidth / 2, width - tip.offsetWidth));
        Object.assign(tip.style, { left: `${left}px`, top: `${-tip.offsetHeight - 8}px` });
      }
    };
    const quiet = () => { tip.hidden = hair.hidden = true; };
    area.addEventListener("pointermove", (event) => {
      const box = area.getBoundingClientRect();
      const part = rows ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
      tell(rows ? Math.floor(part * tips.length) : nearest(part));
    });
    area.addEventListener("pointerleave", quiet);
    area.addEventListener("blur", quiet);
    area.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -1e9, End: 1e9 }[event.key];
      if (event.key === "Escape") quiet();
      if (!step) return;
      event.preventDefault();
      tell(place + step);
    });
  }

  // the number of one layer at one step, in maps of layers over time
  for (const area of document.querySelectorAll("[data-grid]")) {
    const { first, last, steps, names, numbers } = JSON.parse(area.dataset.grid);
    const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    const hairs = ["down", "across"].map(() => Object.assign(document.createElement("div"), { className: "hair", hidden: true }));
    tip.setAttribute("role", "status");
    area.append(...hairs, tip);
    area.tabIndex = 0;
    area.setAttribute("role", "group");
    area.setAttribute("aria-label", "Numbers, one by one, with the arrow keys");
    let look = 0, row = 0;

    const words = (number) => (typeof number === "number" ? (number === 0 ? "0" : Math.abs(number) >= 0.01 && Math.abs(number) < 1000 ? String(number) : number.toExponential(1)) : number ?? "not measured");
    const tell = () => {
      look = Math.max(0, Math.min(steps.length - 1, look));
      row = Math.max(0, Math.min(names.length - 1, row));
      const { width, height } = area.getBoundingClientRect();
      const x = ((steps[look] - first) / Math.max(last - first, 1)) * width;
      const y = ((row + 0.5) / names.length) * height;
      tip.textContent = `${names[row]} · step ${steps[look].toLocaleString("en")} · ${words(numbers[look][row])}`;
      tip.hidden = hairs[0].hidden = hairs[1].hidden = false;
      Object.assign(hairs[0].style, { left: `${x}px`, top: 0, bottom: 0, width: "1px" });
      Object.assign(hairs[1].style, { top: `${y}px`, left: 0, right: 0, height: "1px" });
      Object.assign(tip.style, { left: `${Math.max(-40, Math.min(x + 12, width - tip.offsetWidth))}px`, top: `${y + 12}px` });
    };
    const quiet = () => { tip.hidden = hairs[0].hidden = hairs[1].hidden = true; };
    area.addEventListener("pointermove", (event) => {
      const box = area.getBoundingClientRect();
      const step = first + ((event.clientX - box.left) / box.width) * (last - first);
      look = steps.findLastIndex((other) => other <= step);
      row = Math.floor(((event.clientY - box.top) / box.height) * names.length);
      tell();
    });
    area.addEventListener("pointerleave", quiet);
    area.addEventListener("blur", quiet);
    area.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") quiet();
      if (!move) return;
      event.preventDefault();
      look += move[0];
      row += move[1];
      tell();
    });
  }

  // sort the layers by a column: numbers descending first, words ascending first
  const table = document.querySelector(".layers");
  if (!table) return;
  const body = table.tBodies[0];
  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    if (text === "nan" || text === "inf") return Infinity;
    if (text === "-inf") return -Infinity;
    const number = Number(text.replaceAll(",", ""));
    return text !== "" && !Number.isNaN(number) ? number : text;
  };
  const empty = (value) => value === "" || value === "–";
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  for (const head of table.tHead.rows[0].cells) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const column = head.cellIndex;
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      const numbers = rows.some(([value]) => typeof value === "number");
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numbers;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort(([a], [b]) => empty(a) - empty(b) || (down ? -order(a, b) : order(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  }

  const filter = document.getElementById("filter");
  filter.hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of body.rows) {
      const words = `${row.cells[0].textContent} ${row.cells[2].textContent}`.toLowerCase();
      row.hidden = !words.includes(wanted);
    }
  });
})();
