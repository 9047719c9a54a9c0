// On a narrow screen one part is seen at a time.

import { find } from "./dom.js";

const NARROW = matchMedia("(max-width: 719px)");

export function startViews() {
  for (const tab of document.querySelectorAll(".views button")) {
    tab.addEventListener("click", () => showView(tab.dataset.view));
  }
}

export function showView(name) {
  document.body.dataset.view = name;
  for (const tab of document.querySelectorAll(".views button")) {
    if (tab.dataset.view === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (NARROW.matches) find("scroller").scrollLeft = 0;
}
