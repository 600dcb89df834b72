"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const form = get("filters");
  const all = [...document.querySelectorAll(".f")];
  const apply = () => {
    const name = get("f-name").value;
    const service = get("f-service").value;
    const text = get("f-text").value.trim().toLowerCase();
    const errors = get("f-errors").checked;
    let shown = 0;
    for (const element of all) {
      const data = element.dataset;
      const isShown =
        (name === "" || data.n.includes(` ${name} `)) &&
        (service === "" || data.s.includes(` ${service} `)) &&
        (!errors || data.e !== "0") &&
        (text === "" || element.textContent.toLowerCase().includes(text));
      element.hidden = !isShown;
      shown += isShown;
    }
    const isFiltered = name !== "" || service !== "" || text !== "" || errors;
    get("f-count").textContent = isFiltered ? `${shown} of ${all.length} rows and cards` : "";
    document.documentElement.dataset.shown = shown;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  form.hidden = false;

  const sort = (table, column, head) => {
    const isDown = head.getAttribute("aria-sort") !== "descending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const order = (row) => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(order(a), order(b)) * (isDown ? -1 : 1));
    body.append(...rows);
  };
  for (const table of document.querySelectorAll(".sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column, head));
      head.replaceChildren(button);
    });
  }
  document.documentElement.dataset.script = "ready";
})();
