// The line above the waveforms: what the take is, and what can be done with its request.

import { find, make } from "./dom.js";
import { factsOf } from "./takes.js";

const EDITED = { repaint: "Repainted", cover: "Cover", complete: "Completed" };

/** `acts` has reuse and curl, given the take that is heard. */
export class Head {
  constructor(stage, acts) {
    this.stage = stage;
    find("take-reuse").addEventListener("click", () => acts.reuse(stage.current));
    find("take-curl").addEventListener("click", () => acts.curl(stage.current));
    stage.on("change", () => this.draw());
    stage.on("deck", () => this.draw());
    stage.on("grid", () => this.#grid());
  }

  draw() {
    const take = this.stage.current;
    find("empty").hidden = Boolean(take);
    find("session").hidden = !take;
    if (!take) return;
    find("take-title").textContent = take.title;
    const kind = EDITED[take.task] ? [EDITED[take.task]] : [];
    const facts = [...kind, ...factsOf(take)];
    find("take-facts").replaceChildren(...facts.map((text) => make("li", {}, text)));
    for (const id of ["take-reuse", "take-curl"]) find(id).disabled = Boolean(take.file);
    this.#grid();
  }

  /** Where the beats come from, in words. */
  #grid() {
    const { heard, a } = this.stage;
    const asked = a?.bpm;
    let text = "";
    if (heard?.isClear) {
      text = asked ? `Heard ${heard.bpm} bpm, ${asked} asked` : `Heard ${heard.bpm} bpm`;
    } else if (heard) {
      text = asked ? `${asked} bpm as asked` : "No clear tempo";
    }
    find("grid-note").textContent = text;
  }
}
