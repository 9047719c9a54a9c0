// The few things that every part does with the document. Text only ever goes in as text.

export const find = (id) => document.getElementById(id);

/** An element with properties, attributes (those with a dash, and `role`) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An icon of the page's own set. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon and words, which are only heard where `quiet` is set. */
export function button({ icon: name, words, quiet = true, ...rest }) {
  const text = make("span", { className: quiet ? "sr" : "" }, words);
  const title = quiet ? { title: words } : {};
  return make(
    "button",
    { type: "button", className: "quiet", ...title, ...rest },
    icon(name),
    text,
  );
}

let silence = 0;

/** Say something to whoever listens, and show it for a moment. */
export function say(text) {
  const place = find("say");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(silence);
  silence = setTimeout(() => place.classList.remove("shown"), 5000);
}

/** Seconds as m:ss.t; `short` leaves the tenths away. */
export function clock(seconds, short = false) {
  const tenths = Math.max(0, Math.floor(seconds * 10 + 1e-6));
  const minutes = Math.floor(tenths / 600);
  const rest = String(Math.floor((tenths % 600) / 10)).padStart(2, "0");
  return short ? `${minutes}:${rest}` : `${minutes}:${rest}.${tenths % 10}`;
}

/** A number without needless digits. */
export const neat = (value, digits = 2) => String(Number(value.toFixed(digits)));
