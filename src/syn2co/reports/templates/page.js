"use strict";
(() => {
  const number = (text) => (text === "" ? NaN : Number(text));
  const plain = (text) => text.replace(/(\d),(?=\d{3}(?!\d))/g, "$1");
  const compare = (one, two) => {
    const [a, b] = [number(one), number(two)];
    return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(two, "en", { numeric: true }) : a - b;
  };
  const sort = (head) => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const first = head.dataset.first, other = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const value = (row) => row.cells[column].dataset.sort ?? plain(row.cells[column].textContent.trim());
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const [one, two] = [value(a), value(b)];
      if (one === "" || two === "") return (one === "") - (two === "");
      return sign * compare(one, two);
    });
    body.append(...rows);
  };
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  const tip = document.getElementById("tip");
  let shown = null;
  const hide = () => {
    if (shown) shown.classList.remove("on");
    shown = null;
    tip.classList.remove("on");
  };
  const place = () => {
    const anchor = (shown.querySelector(".mark, .fill, .hit") ?? shown).getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const left = Math.min(anchor.left + anchor.width / 2 - box.width / 2, innerWidth - box.width - 8);
    const above = anchor.top - box.height - 8;
    tip.style.transform = `translate(${Math.max(8, left)}px, ${above > 4 ? above : anchor.bottom + 8}px)`;
  };
  const show = (point) => {
    if (shown === point) return;
    hide();
    shown = point;
    point.classList.add("on");
    tip.textContent = point.dataset.tip;
    place();
    tip.classList.add("on");
  };
  for (const title of document.querySelectorAll(".point > title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  for (const chart of document.querySelectorAll(".points")) {
    const points = [...chart.querySelectorAll(".point")];
    if (!points.length) continue;
    let at = 0;
    chart.addEventListener("pointerover", (event) => {
      const point = event.target.closest(".point");
      if (point) show(point); else hide();
    });
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") hide(); });
    chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) show(points[at]); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      if (event.key in steps) at = (at + steps[event.key] + points.length) % points.length;
      else if (event.key === "Home") at = 0;
      else if (event.key === "End") at = points.length - 1;
      else { if (event.key === "Escape") hide(); return; }
      event.preventDefault();
      show(points[at]);
    });
  }
  addEventListener("pointerdown", (event) => { if (!event.target.closest(".point")) hide(); });
  addEventListener("scroll", () => { if (shown) place(); }, { passive: true });
  addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
})();
