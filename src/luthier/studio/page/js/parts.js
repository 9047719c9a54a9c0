// The fields of the dock, each as an element.

import { make, neat } from "./dom.js";

const spoken = (track) => track.replaceAll("_", " ");

/** What belongs to one field of a request: refusals of it are shown there. */
const field = (name, ...children) =>
  make("div", { className: "field", "data-field": name }, ...children);

export function check(name, text) {
  const id = `edit-${name}`;
  return make(
    "label",
    { className: "check", htmlFor: id },
    make("input", { type: "checkbox", id, name }),
    text,
  );
}

/** A share, 0 to 1. */
export function range(name, label, value) {
  const id = name;
  return field(
    name,
    make(
      "label",
      { className: "label", htmlFor: id },
      make("span", {}, label),
      make("output", { htmlFor: id }),
    ),
    make("input", { ...{ type: "range", id, name, min: 0, max: 1, step: 0.05 }, value }),
  );
}

/** How a repaint treats its source. */
export function modes() {
  const names = ["balanced", "conservative", "aggressive"];
  return [
    field(
      "repaint_mode",
      make("label", { htmlFor: "repaint_mode" }, "How freely"),
      make(
        "select",
        { id: "repaint_mode", name: "repaint_mode" },
        ...names.map((name) => make("option", {}, name)),
      ),
    ),
    range("repaint_strength", "Strength", 0.5),
  ];
}

/** Words to the model; nothing written means those of the take. */
export function words(label, known) {
  return field(
    "prompt",
    make("label", { htmlFor: "edit-prompt" }, label),
    make("textarea", {
      id: "edit-prompt",
      name: "prompt",
      rows: 1,
      maxLength: 4096,
      placeholder: known ? `As before: ${known}` : "In words",
    }),
  );
}

/** The region in seconds; `selection` is told of what is typed. */
export function regionField(selection, span) {
  const { region } = selection;
  const input = (side, label) => {
    const made = make("input", {
      ...{ id: `region-${side}`, type: "text", inputMode: "decimal", value: neat(region[side]) },
      onchange: ({ target }) => {
        const time = Number(target.value.replace(",", "."));
        if (Number.isFinite(time)) selection.set({ ...selection.region, [side]: time });
      },
    });
    return make(
      "label",
      { className: "unit", htmlFor: made.id },
      make("span", {}, label),
      made,
      make("span", { "aria-hidden": "true" }, "s"),
    );
  };
  const clear = make(
    "button",
    { type: "button", className: "link", onclick: () => selection.set(null) },
    "Clear",
  );
  return field(
    "repaint_start_s",
    make("span", { className: "label" }, make("span", { title: span }, "Region"), clear),
    make("div", { className: "pair" }, input("start", "from"), input("end", "to")),
  );
}

/** One track, or several where `type` is a checkbox. */
export function trackField(type, label, tracks) {
  const choices = tracks.map((track, i) =>
    make(
      "label",
      {},
      make("input", { type, name: "tracks", value: track, checked: type === "radio" && i === 0 }),
      make("span", {}, spoken(track)),
    ),
  );
  return make(
    "fieldset",
    { className: "field tracks", "data-field": "tracks" },
    make("legend", {}, label),
    make("div", { className: "pills" }, ...choices),
  );
}
