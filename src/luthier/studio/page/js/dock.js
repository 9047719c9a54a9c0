// Work on the take that is on the stage: repaint a region, add a layer, extract, complete, cover.

import { modelNamed, whyNot } from "./capabilities.js";
import { Events } from "./events.js";
import { clock, find, icon, make } from "./dom.js";
import { check, modes, range, regionField, trackField, words } from "./parts.js";

const EDITS = [
  { task: "repaint", name: "Repaint", does: "Repaint the region" },
  { task: "lego", name: "Add layer", does: "Add the layer" },
  { task: "extract", name: "Extract", does: "Extract the stem" },
  { task: "complete", name: "Complete", does: "Complete it" },
  { task: "cover", name: "Cover", does: "Make the cover" },
];

/** Emits "edit" with {task, values, region, tracks}, and "curl" with the same. */
export class Dock extends Events {
  #task = "repaint";
  #written = {};

  constructor(selection) {
    super();
    this.selection = selection;
    this.form = find("edit");
    find("tabs").addEventListener("keydown", (event) => this.#walk(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.form.querySelector(".primary").disabled) this.emit("edit", this.asked());
    });
    this.form.addEventListener("input", () => this.#keep());
    selection.on("change", (region) => this.#regionChanged(region));
  }

  /** Show what `model` can do, for a take with `take`'s words. */
  show(take, model) {
    this.take = take;
    this.model = model;
    find("tabs").replaceChildren(
      ...EDITS.map(({ task, name }) => {
        const reason = whyNot(task, model);
        return make(
          "button",
          {
            ...{ type: "button", role: "tab", id: `tab-${task}`, title: reason },
            "aria-selected": String(task === this.#task),
            "aria-controls": "panel",
            tabIndex: task === this.#task ? 0 : -1,
            "aria-disabled": reason ? "true" : null,
            onclick: () => this.choose(task),
          },
          name,
        );
      }),
    );
    this.#fill();
  }

  choose(task, { focus = false } = {}) {
    this.#task = task;
    for (const tab of find("tabs").children) {
      const isIt = tab.id === `tab-${task}`;
      tab.setAttribute("aria-selected", String(isIt));
      tab.tabIndex = isIt ? 0 : -1;
    }
    this.#fill();
    if (focus) this.form.querySelector("textarea, select, input:not([type=hidden])")?.focus();
  }

  /** What is asked for now. */
  asked() {
    const said = Object.fromEntries(new FormData(this.form));
    const { region } = this.selection;
    const tracks = [].concat(new FormData(this.form).getAll("tracks"));
    const values = { task: this.#task, prompt: said.prompt?.trim() || this.take.prompt || "" };
    if (tracks.length) values.tracks = tracks.join(",");
    const isWindowed = this.#task === "repaint" || (this.#task === "lego" && said.windowed);
    if (isWindowed && region) {
      values.repaint_start_s = Number(region.start.toFixed(3));
      values.repaint_end_s = Number(region.end.toFixed(3));
    }
    for (const name of [
      "repaint_mode",
      "repaint_strength",
      "cover_strength",
      "cover_noise_strength",
    ]) {
      if (said[name] !== undefined)
        values[name] = isNaN(said[name]) ? said[name] : Number(said[name]);
    }
    return { task: this.#task, values, region: isWindowed ? region : null, tracks };
  }

  #regionChanged(region) {
    if (!this.take) return;
    if (region && this.#task !== "repaint" && this.#task !== "lego") this.choose("repaint");
    else this.#fill();
  }

  #keep() {
    this.#written[this.#task] = Object.fromEntries(new FormData(this.form));
    const strength = this.form.querySelector("[data-field=repaint_strength]");
    if (strength) strength.hidden = this.form.elements.repaint_mode.value !== "balanced";
    for (const output of this.form.querySelectorAll("output")) {
      output.textContent = this.form.elements[output.htmlFor].value;
    }
  }

  #fill() {
    const { does } = EDITS.find(({ task }) => task === this.#task);
    const reason = whyNot(this.#task, this.model);
    const isBare = this.#task === "repaint" && !this.selection.region;
    find("panel").setAttribute("aria-labelledby", `tab-${this.#task}`);
    const go = make(
      "button",
      { type: "submit", className: "primary", disabled: Boolean(reason) || isBare },
      does,
    );
    const copy = make(
      "button",
      {
        ...{
          type: "button",
          className: "plain square",
          title: "Copy as curl",
          disabled: go.disabled,
        },
        onclick: () => this.emit("curl", this.asked()),
      },
      icon("code"),
      make("span", { className: "sr" }, "Copy this request as curl"),
    );
    const parts = reason ? [make("p", { className: "reason" }, reason)] : this.#parts();
    const problem = make("p", {
      className: "problem",
      id: "edit-problem",
      role: "alert",
      hidden: true,
    });
    const said = parts.find((part) => part?.dataset.field === "prompt");
    this.form.replaceChildren(
      ...(said ? [said] : []),
      make("div", { className: "parts" }, ...parts.filter((part) => part !== said)),
      make("div", { className: "ends" }, problem, copy, go),
    );
    const written = this.#written[this.#task] ?? {};
    for (const [name, value] of Object.entries(written)) {
      const input = this.form.elements[name];
      if (input instanceof RadioNodeList) input.value = value;
      else if (input?.type === "checkbox") input.checked = true;
      else if (input) input.value = value;
    }
    this.#keep();
  }

  #parts() {
    const { tracks } = modelNamed(this.model);
    const known = this.take.prompt;
    const { region } = this.selection;
    const span = region && `${clock(region.start)} – ${clock(region.end)}`;
    switch (this.#task) {
      case "repaint":
        if (!region) {
          return [
            make(
              "p",
              { className: "hint" },
              "Drag over the waveform to choose what is made anew, or set its ends with [ and ] at the playhead.",
            ),
          ];
        }
        return [
          words("What should be there instead", known),
          regionField(this.selection, span),
          ...modes(),
        ];
      case "lego":
        return [
          trackField("radio", "Track", tracks),
          words("How it should sound", known),
          region ? check("windowed", `Only ${span}`) : null,
        ];
      case "extract":
        return [trackField("radio", "Track to extract", tracks)];
      case "complete":
        return [
          trackField("checkbox", "Tracks to add", tracks),
          words("How it should sound", known),
        ];
      default:
        return [
          words("The new style", known),
          range("cover_strength", "Follows the source", 1),
          range("cover_noise_strength", "Starts near it", 0),
        ];
    }
  }

  #walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = EDITS.findIndex(({ task }) => task === this.#task);
    this.choose(EDITS[(at + step + EDITS.length) % EDITS.length].task);
    find(`tab-${this.#task}`).focus();
  }
}

/** The musical facts that an edit takes over from its take. */
export function factsForEdit(take) {
  const values = {};
  for (const name of ["bpm", "key", "time_signature"]) if (take[name]) values[name] = take[name];
  const isSung = Boolean(take.lyrics) && !/^\[inst/i.test(take.lyrics);
  return isSung ? { ...values, lyrics: take.lyrics } : { ...values, instrumental: true };
}
