// The keys, in one table: what they do, and what the help says about it.

import { find, make } from "./dom.js";

const PLACE = "luthier.studio.keys";
const TYPING = "input:not([type=range], [type=checkbox], [type=radio]), textarea, select";

/** `acts` has a function for each name of the table. */
const TABLE = [
  [
    "Play",
    [
      [" ", "space", "play or pause", "toggle"],
      ["Home", "home", "back to the start", "toStart"],
      ["ArrowLeft", "←", "a beat back (shift: a bar)", "back"],
      ["ArrowRight", "→", "a beat on (shift: a bar)", "on"],
      ["l", "L", "loop the region, or all", "loop"],
      ["a", "A", "hear take A", "deckA"],
      ["b", "B", "hear take B", "deckB"],
      ["x", "X", "change between A and B", "swap"],
    ],
  ],
  [
    "Region",
    [
      ["[", "[", "starts here", "regionStart"],
      ["]", "]", "ends here", "regionEnd"],
      ["Escape", "esc", "no region", "clear"],
      ["r", "R", "repaint the region", "repaint"],
    ],
  ],
  [
    "Make",
    [
      ["g", "G", "generate", "generate"],
      ["/", "/", "write the prompt", "prompt"],
      ["ArrowUp", "↑", "the take above in the list", "newer"],
      ["ArrowDown", "↓", "the take below", "older"],
      ["d", "D", "download", "download"],
    ],
  ],
  [
    "See",
    [
      ["s", "S", "waves or spectrum", "look"],
      ["+", "+", "closer", "closer"],
      ["-", "−", "farther", "farther"],
      ["?", "?", "this help", "help"],
    ],
  ],
];

export function startKeys(acts) {
  const byKey = new Map(
    TABLE.flatMap(([, rows]) => rows.map(([key, , , act]) => [key, acts[act]])),
  );
  byKey.set("=", acts.closer);
  showHelp();
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (isOthers(event.target, key) || (!areOn() && key !== "Escape")) return;
    const act = byKey.get(key);
    if (!act) return;
    event.preventDefault();
    act(event.shiftKey);
  });
}

/** Whether the key means something to what has the focus. */
function isOthers(target, key) {
  if (target.matches(TYPING)) return true;
  // A button that was clicked keeps the focus: space then means the music, as people expect.
  if (key === " ")
    return target.matches("button, summary, input, [role=tab]") && target.matches(":focus-visible");
  if (key.startsWith("Arrow") || key === "Home")
    return target.matches("input, [role=slider], [role=tab]");
  return false;
}

const areOn = () => localStorage.getItem(PLACE) !== "off";

function showHelp() {
  const box = make("input", { type: "checkbox", id: "keys-on", checked: areOn() });
  box.addEventListener("change", () => localStorage.setItem(PLACE, box.checked ? "on" : "off"));
  find("help-keys").replaceChildren(
    ...TABLE.map(([title, rows]) =>
      make(
        "section",
        {},
        make("h3", {}, title),
        make(
          "dl",
          {},
          ...rows.map(([, shown, words]) =>
            make("div", {}, make("dt", {}, make("kbd", {}, shown)), make("dd", {}, words)),
          ),
        ),
      ),
    ),
    make("label", { className: "check", htmlFor: "keys-on" }, box, "Use single keys"),
  );
}
