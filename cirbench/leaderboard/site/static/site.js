// What a reader can do beyond reading: choose the colours, and sort, filter and search the tables of a page.
// Without this script every page is whole; with it, what is chosen is in the address and can be shared.
"use strict";

(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function stored(theme) {
    try {
      if (theme) localStorage.setItem("cirbench-theme", theme);
      return localStorage.getItem("cirbench-theme");
    } catch {
      return theme ?? null; // a browser that keeps nothing for local files
    }
  }

  const kept = stored();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;

  function themeButton() {
    const button = document.querySelector(".theme");
    if (!button) return;
    const current = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
    const label = () => { button.textContent = current() === "dark" ? "Light colours" : "Dark colours"; };
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      stored(root.dataset.theme);
      label();
    });
    dark.addEventListener("change", label);
    label();
    button.hidden = false;
  }

  // The state of a page: the filters' names and values, "hide" for columns, "flat", and "sort.BOARD" for each table.
  const readState = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

  function boards(form) {
    const tables = [...document.querySelectorAll("table.board")].map(board);
    const status = document.querySelector(".status");
    const fields = [...form.querySelectorAll("select, input[type=search]")];
    const columns = [...form.querySelectorAll("input[data-column]")];
    const flat = form.querySelector("input[name=flat]");
    let sorts = {}, picks = {};
    // A phone has room for a few columns; the others can be chosen.
    const narrow = matchMedia("(max-width: 40rem)").matches;
    if (narrow) for (const box of columns) box.checked = box.defaultChecked &&= "narrow" in box.dataset;

    function show(state) {
      for (const field of fields) field.value = state.get(field.name) ?? "";
      const hidden = state.has("hide") ? new Set(state.get("hide").split(" ")) : null;
      for (const box of columns) box.checked = hidden ? !hidden.has(box.dataset.column) : box.defaultChecked;
      flat.checked = state.get("flat") === "1";
      sorts = {};
      picks = {};
      for (const [key, value] of state) {
        if (key.startsWith("sort.")) sorts[key.slice(5)] = value;
        if (key.startsWith("pick.")) picks[key.slice(5)] = value.split(" ").filter(Boolean);
      }
      update();
    }

    function update() {
      const wanted = Object.fromEntries(fields.map((field) => [field.name, field.value.trim().toLowerCase()]));
      const words = wanted.q ? wanted.q.split(/\s+/) : [];
      const hidden = new Set(columns.filter((box) => !box.checked).map((box) => box.dataset.column));
      const fits = (row) =>
        ["backbone", "supervision", "badge"].every((name) => !wanted[name] || row.data[name] === wanted[name]) &&
        (!wanted.since || Number(row.data.year || 0) >= Number(wanted.since)) &&
        words.every((word) => row.text.includes(word));
      let shown = 0, total = 0, order = "";
      for (const table of tables) {
        const [count, of, sorted] = table.show(fits, hidden, flat.checked, sorts[table.id]);
        table.compare(picks[table.id] ?? []);
        shown += count;
        total += of;
        order += sorted;
      }
      if (status) status.textContent = `${shown} of ${total} rows shown${order}.`;
    }

    function remember() {
      const state = new URLSearchParams();
      for (const field of fields) if (field.value.trim()) state.set(field.name, field.value.trim());
      if (columns.some((box) => box.checked !== box.defaultChecked)) {
        state.set("hide", columns.filter((box) => !box.checked).map((box) => box.dataset.column).join(" "));
      }
      if (flat.checked) state.set("flat", "1");
      for (const [id, sort] of Object.entries(sorts)) state.set(`sort.${id}`, sort);
      for (const [id, chosen] of Object.entries(picks)) if (chosen.length) state.set(`pick.${id}`, chosen.join(" "));
      history.replaceState(null, "", `#${state}`);
      update();
    }

    for (const table of tables) {
      table.onSort = (sort) => { sorts[table.id] = sort; remember(); };
      table.onPick = (id, chosen) => {
        picks[table.id] = (picks[table.id] ?? []).filter((other) => other !== id).concat(chosen ? [id] : []);
        remember();
      };
    }
    form.addEventListener("input", remember);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector("button[type=reset]").addEventListener("click", (event) => {
      event.preventDefault();
      show(new URLSearchParams());
      remember();
    });
    addEventListener("hashchange", () => { if (location.hash.includes("=")) show(readState()); });
    form.hidden = false;
    show(readState());
  }

  // What a search looks at: everything that a row shows without being opened.
  function spoken(row) {
    const copy = row.cloneNode(true);
    for (const opened of copy.querySelectorAll(".opened")) opened.remove();
    return `${copy.textContent} ${row.dataset.backbone ?? ""}`.toLowerCase();
  }

  // One table: its rows are in a body for each group that is ranked together, and in one body of their own when they are not grouped.
  function board(table) {
    const heads = [...table.tHead.rows[0].cells];
    const groups = [...table.tBodies].map((body) => ({ body, rows: [...body.querySelectorAll("tr:not(.group)")] }));
    const together = table.createTBody();
    const rows = groups.flatMap(({ rows }) => rows).map((element, place) => ({
      element,
      place,
      text: spoken(element),
      data: Object.fromEntries(Object.entries(element.dataset).map(([key, value]) => [key, value.toLowerCase()])),
    }));
    const byElement = new Map(rows.map((row) => [row.element, row]));
    const self = { id: table.id, onSort: null, onPick: null, show, compare };
    const box = table.closest(".box");
    const headline = heads.findIndex((head) => head.classList.contains("n") && head.dataset.key !== "rank");
    // A table that fits is not a scroll box, so that its head stays in sight while the page scrolls.
    new ResizeObserver(() => {
      box.classList.remove("fits");
      box.classList.toggle("fits", table.scrollWidth <= box.clientWidth);
    }).observe(table);
    let ordered = "false undefined"; // the order of the rows, which is the page's own at first

    // What a row opens to is in a row of its own below it.
    for (const row of rows) {
      const details = row.element.querySelector("details");
      const opened = details?.querySelector(".opened");
      details?.addEventListener("toggle", () => {
        if (details.open && !row.more) {
          row.more = document.createElement("tr");
          row.more.className = "more";
          const cell = row.more.insertCell();
          cell.colSpan = heads.length;
          cell.append(opened);
          row.element.after(row.more);
        } else if (!details.open && row.more) {
          details.append(opened);
          row.more.remove();
          row.more = undefined;
        }
      });
    }

    heads.forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = head.classList.contains("n") && head.dataset.key !== "rank" ? "desc" : "asc";
        const now = head.getAttribute("aria-sort");
        const next = now === null ? first : now === "ascending" ? "desc" : "asc";
        self.onSort(`${head.dataset.key}.${next}`);
      });
    });

    function show(fits, hidden, flat, sort) {
      const [key, direction] = sort ? [sort.replace(/\.[^.]*$/, ""), sort.endsWith(".desc") ? "desc" : "asc"] : [];
      const chosen = heads.findIndex((head) => head.dataset.key === key);
      const [at, falling] = chosen < 0 && flat ? [headline, true] : [chosen, direction === "desc"];
      heads.forEach((head, place) => {
        if (place === at) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      table.classList.toggle("grouped", !flat);
      const compare = at < 0 ? (a, b) => a.place - b.place : comparison(at, falling ? -1 : 1);
      const order = `${flat} ${sort}`;
      const parts = flat ? [[together, rows]] : groups.map(({ body, rows }) => [body, rows.map((row) => byElement.get(row))]);
      let count = 0;
      for (const [body, members] of parts) {
        const shown = members.filter((row) => {
          row.element.hidden = !fits(row);
          if (row.more) row.more.hidden = row.element.hidden;
          return !row.element.hidden;
        });
        if (order !== ordered) body.append(...[...members].sort(compare).flatMap(({ element, more }) => more ? [element, more] : [element]));
        body.hidden = shown.length === 0;
        count += shown.length;
      }
      ordered = order;
      for (const { body } of groups) if (flat) body.hidden = true;
      heads.forEach((head, place) => {
        const hide = hidden.has(head.dataset.key);
        if (head.hidden === hide) return;
        head.hidden = hide;
        for (const { element } of rows) element.cells[place].hidden = hide;
      });
      const label = chosen < 0 ? "" : `, ${table.dataset.title} by ${heads[at].textContent.trim()}, ${falling ? "highest" : "lowest"} first`;
      return [count, rows.length, label];
    }

    function comparison(at, sign) {
      const counted = heads[at].classList.contains("n");
      const value = (row) => {
        const cell = row.element.cells[at];
        if (!counted) return cell.textContent.trim().toLowerCase();
        const number = parseFloat(cell.firstChild.data); // the interval is in an element of its own; 2-4 counts as 2
        return Number.isNaN(number) ? null : number;
      };
      const values = new Map(rows.map((row) => [row, value(row)]));
      return (a, b) => {
        const [x, y] = [values.get(a), values.get(b)];
        if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place; // unknown comes last
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true })) || a.place - b.place;
      };
    }

    // Rows that were picked, side by side: each against the first, with the paired test where both lists are stored.
    const tested = new Map();
    for (const [one, other, difference, low, high, p] of JSON.parse(table.dataset.pairs)) {
      tested.set(`${one} ${other}`, [difference, low, high, p]);
      tested.set(`${other} ${one}`, [-difference, -high, -low, p]);
    }
    const boxes = new Map();
    for (const { element } of rows) {
      const pick = document.createElement("input");
      Object.assign(pick, { type: "checkbox", className: "pick", title: "Compare with other rows" });
      pick.setAttribute("aria-label", `Compare ${element.querySelector("th a").textContent}`);
      pick.addEventListener("change", (event) => { event.stopPropagation(); self.onPick(element.id, pick.checked); });
      element.querySelector("th").prepend(pick);
      boxes.set(element.id, pick);
    }
    const panel = document.createElement("div");
    panel.className = "compared";
    panel.setAttribute("role", "region");
    panel.setAttribute("aria-label", "Chosen rows");
    panel.tabIndex = 0;
    panel.hidden = true;
    box.before(panel);

    function compare(ids) {
      for (const [id, pick] of boxes) pick.checked = ids.includes(id);
      const picked = ids.map((id) => rows.find((row) => row.element.id === id)).filter(Boolean);
      panel.hidden = picked.length < 2;
      if (panel.hidden) return panel.replaceChildren();
      const metrics = heads.map((head, place) => [head, place]).filter(([head]) =>
        head.classList.contains("n") && !["rank", "year"].includes(head.dataset.key) && !head.hidden);
      const number = (row, place) => parseFloat(row.element.cells[place].firstChild.data);
      const made = document.createElement("table");
      const line = (parent, cells, name) => {
        const row = parent.insertRow();
        cells.forEach((text, at) => {
          const cell = document.createElement(at && name === "td" ? "td" : "th");
          if (at) cell.className = "n";
          cell.textContent = text;
          row.append(cell);
        });
      };
      const first = picked[0], sign = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;
      const name = (row) => `${row.element.querySelector("th a").textContent}, ${row.element.dataset.backbone}`;
      line(made.createTHead(), ["row", ...metrics.map(([head]) => head.textContent.trim()), "95 % interval of the difference", "p"], "th");
      const body = made.createTBody();
      for (const row of picked) {
        const [, low, high, p] = tested.get(`${row.element.id} ${first.element.id}`) ?? [];
        const values = metrics.map(([, place]) => {
          const value = number(row, place), other = number(first, place);
          if (Number.isNaN(value)) return "\u2013";
          return row === first || Number.isNaN(other) ? value.toFixed(2) : `${value.toFixed(2)} (${sign(value - other)})`;
        });
        const test = low === undefined ? ["\u2013", "\u2013"] : [`${sign(low)} to ${sign(high)}`, p < 0.0001 ? "< 0.0001" : p.toFixed(4)];
        line(body, [name(row), ...values, ...test], "td");
      }
      const note = document.createElement("p");
      note.textContent = `Each row against the first one chosen; the test is that of ${heads[headline].textContent.trim()}, ` +
        "paired over queries, for two runs whose ranks are stored.";
      panel.replaceChildren(made, note);
    }

    return self;
  }

  // Queries on a page: chosen by what they are about and by what became of them, near misses first if asked.
  function queries(form) {
    const place = document.querySelector(".cases");
    const cases = [...place.children].map((element, at) => ({
      element,
      at,
      labels: element.dataset.labels.split("|"),
      answers: [...element.querySelectorAll(".answer[data-run]")],
    }));
    const status = document.querySelector(".status");
    const outcomes = {
      "": () => true,
      first: (best) => best === 1,
      found: (best) => best <= 10,
      near: (best) => best > 10 && best <= 50,
      missed: (best) => best > 50,
    };
    const FOUND = 1e9; // what was found comes after everything that was missed

    function update() {
      const { label, run, outcome, order } = Object.fromEntries(new FormData(form));
      const hidden = new Set([...form.querySelectorAll("input[data-shown]:not(:checked)")].map((box) => box.dataset.shown));
      let shown = 0;
      for (const each of cases) {
        const answer = each.answers.find((answer) => answer.dataset.run === run);
        each.best = answer?.dataset.best ? Number(answer.dataset.best) : Infinity;
        each.element.hidden = !(outcomes[outcome](each.best) && (!label || each.labels.includes(label)));
        shown += !each.element.hidden;
        for (const answer of each.answers) answer.hidden = hidden.has(answer.dataset.run);
      }
      const key = ({ best }) => (best <= 10 ? FOUND + best : Math.min(best, FOUND - 1));
      const ordered = order === "near" ? [...cases].sort((a, b) => key(a) - key(b) || a.at - b.at) : cases;
      place.append(...ordered.map(({ element }) => element));
      status.textContent = `${shown} of ${cases.length} queries shown.`;
    }

    form.addEventListener("input", update);
    form.addEventListener("reset", () => setTimeout(update));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    update();
  }

  document.addEventListener("DOMContentLoaded", () => {
    themeButton();
    const form = document.querySelector("form.filters");
    if (form) (form.matches(".looking") ? queries : boards)(form);
  });
})();
