// The reference sound of a request: a take's file on the server, or a file of this computer.

import { find } from "./dom.js";

const UNSIGNED = /&(expires|signature)=[^&]*/g;

/** A result's address without its signature: what a request names it by. */
export const pathOf = (take) => take.link.replace(UNSIGNED, "");

export class Reference {
  #take = null;
  #file = null;

  /** `current` gives the take on the stage, or null. */
  constructor(current) {
    find("ref-take").addEventListener("click", () => this.#use(current()));
    find("ref-file").addEventListener("click", () => find("ref-input").click());
    find("ref-input").addEventListener("change", ({ target }) => {
      if (target.files.length) this.#set(null, target.files[0]);
      target.value = "";
    });
    find("ref-clear").addEventListener("click", () => {
      this.#set(null, null);
      find("ref-file").focus();
    });
  }

  /** {values, files} to send with a request. */
  parts() {
    if (this.#take) return { values: { reference_audio_path: pathOf(this.#take) }, files: {} };
    return { values: {}, files: this.#file ? { ref_audio: this.#file } : {} };
  }

  offer(isThere) {
    find("ref-take").disabled = !isThere;
  }

  #use(take) {
    if (take) this.#set(take.file ? null : take, take.file ?? null);
  }

  #set(take, file) {
    this.#take = take;
    this.#file = file;
    const name = take?.title ?? file?.name;
    find("ref-name").textContent = name ?? "none";
    find("reference").classList.toggle("filled", Boolean(name));
    find("ref-clear").hidden = !name;
    find("ref-hint").hidden = Boolean(name);
  }
}
