// Light or dark: as the system has it, until somebody chooses.

import { find } from "./dom.js";

const PLACE = "luthier.studio.theme";

/** Take up the choice, and let the button change it; `changed` is told after each change. */
export function startTheme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem(PLACE);
  const show = () => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    changed();
  };
  system.addEventListener("change", show);
  find("theme").addEventListener("click", () => {
    const isDark = document.documentElement.dataset.theme === "dark";
    localStorage.setItem(PLACE, isDark ? "light" : "dark");
    show();
  });
  show();
}

const probe = document.createElement("i");
probe.hidden = true;
document.body.append(probe);

/** A colour of the theme as it is now, for what is drawn. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
