"use strict";

// Sorting: a heading's button orders the rows by their data-value, the same button again turns the order around.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}

function sortBy(heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  const body = heading.closest("table").tBodies[0];
  const isNumber = heading.classList.contains("number");
  const value = (row) => row.cells[heading.cellIndex].dataset.value;
  const compare = (a, b) => (isNumber ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
  const rows = Array.from(body.rows).sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured stays last
    return ascending ? compare(x, y) : compare(y, x);
  });
  for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}

// What stands behind a point of a chart, beside the pointer. The tables say the same without a pointer.
const tip = document.getElementById("tip");

for (const part of document.querySelectorAll("[data-tip]")) {
  part.addEventListener("pointerenter", (event) => showTip(part.dataset.tip, event));
  part.addEventListener("pointerleave", hideTip);
}
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

function showTip(text, event) {
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const above = event.clientY - tip.offsetHeight - 14;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : event.clientY + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}
