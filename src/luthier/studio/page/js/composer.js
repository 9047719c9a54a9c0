// The form on the left: what people ask for → the values of a request, by the server's field names.

import { capabilities, expectedSeconds, modelNamed } from "./capabilities.js";
import { Events } from "./events.js";
import { find, make, neat } from "./dom.js";

const KEYS = {
  major: ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"],
  minor: ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"],
};
const MUSIC = ["prompt", "bpm", "key", "time_signature", "duration_s"];
const ENGINE = [
  ...["model", "batch_size", "steps", "guidance_scale", "shift", "sampler_mode", "infer_method"],
  ...["guidance_method", "audio_format", "fade_in_s", "fade_out_s"],
];
const PLACE = "luthier.studio.song";
const MOST_SEED = 2 ** 32;
const LOSSLESS = "flac";

/** Emits "change". */
export class Composer extends Events {
  constructor() {
    super();
    this.form = find("song");
    for (const [mode, names] of Object.entries(KEYS)) {
      const options = names.map((name) => make("option", {}, `${name} ${mode}`));
      find("key").append(make("optgroup", { label: mode }, ...options));
    }
    this.form.addEventListener("input", () => this.#changed());
    find("dice").addEventListener("click", () => this.#roll());
    find("lock").addEventListener("click", () => this.lock(!this.isLocked));
    find("seed").addEventListener("input", ({ target }) => this.lock(target.value.trim() !== ""));
  }

  /** Fill the lists with what the server has, and bring back what was written last time. */
  fill() {
    const { models, audio_formats: formats, features, fields } = capabilities();
    find("model").replaceChildren(...models.map(({ name }) => make("option", {}, name)));
    const first = formats.includes(LOSSLESS) ? LOSSLESS : formats[0];
    find("format").replaceChildren(
      ...formats.map((name) => make("option", { selected: name === first }, name)),
    );
    find("thinking-field").hidden = !features.thinking;
    for (const { name, help } of fields) {
      const place = this.form.querySelector(`[data-field="${name}"] :is(label, .label)`);
      if (place) place.title = help;
    }
    this.#fillAdapters();
    this.#restore();
    this.#changed();
  }

  /** LoRAs are only shown where the server has some. */
  #fillAdapters() {
    const { adapters } = capabilities();
    const options = adapters.map((name) => make("option", {}, name));
    find("lora").replaceChildren(make("option", { value: "" }, "none"), ...options);
    find("lora-field").hidden = adapters.length === 0;
  }

  /** A new piece: everything that is said. */
  song() {
    const sung = this.form.elements.voice.value === "sung" && find("lyrics").value.trim();
    const words = sung
      ? { lyrics: find("lyrics").value, vocal_language: find("language").value.trim() }
      : { instrumental: true };
    return { task: "text2music", ...this.#said(MUSIC), ...words, ...this.engine() };
  }

  /** Model, LoRA, seed and sampling: what every request takes over. */
  engine() {
    const values = this.#said(ENGINE);
    if (this.isLocked && find("seed").value.trim()) values.seed = number(find("seed").value);
    if (find("lora").value) {
      values.lora = `${find("lora").value}:${find("lora-scale").value.trim() || 1}`;
    }
    if (!find("thinking-field").hidden && find("thinking").checked) values.thinking = true;
    return values;
  }

  get isLocked() {
    return find("lock").getAttribute("aria-pressed") === "true";
  }

  lock(isLocked) {
    find("lock").setAttribute("aria-pressed", String(isLocked));
    this.form.classList.toggle("locked", isLocked);
    this.#keep();
  }

  /** Write what is given into the form, and leave the rest. */
  take(idea) {
    for (const name of ["prompt", "bpm", "key", "time_signature"]) {
      if (idea[name]) this.form.elements[name].value = idea[name];
    }
    if (idea.lyrics !== undefined) {
      const isSung = Boolean(idea.lyrics) && !/^\[inst/i.test(idea.lyrics);
      this.form.elements.voice.value = isSung ? "sung" : "none";
      find("lyrics").value = isSung ? idea.lyrics : "";
    }
    this.#changed();
  }

  /** Bring back all that a take was made with. */
  reuse(take) {
    for (const name of ["prompt", "bpm", "key", "time_signature"])
      this.form.elements[name].value = "";
    find("duration").value = neat(take.duration);
    find("seed").value = take.seed ?? "";
    this.lock(take.seed !== undefined);
    this.take(take);
  }

  #said(names) {
    const values = {};
    for (const name of names) {
      const text = this.form.elements[name].value.trim();
      if (text) values[name] = number(text);
    }
    return values;
  }

  #roll() {
    find("seed").value = String(Math.floor(Math.random() * MOST_SEED));
    this.lock(true);
  }

  #changed() {
    find("sung").hidden = this.form.elements.voice.value !== "sung";
    if (capabilities()) this.#recommend();
    this.#keep();
    this.emit("change");
  }

  #recommend() {
    const model = modelNamed(find("model").value);
    const { inference_steps: steps, guidance_scale: guidance, shift } = model.recommended;
    find("steps").placeholder = steps;
    find("guidance").placeholder = guidance;
    find("shift").placeholder = shift;
    find("model-note").textContent =
      `${model.sample_rate / 1000} kHz, up to ${neat(model.longest_s, 0)} s, ${steps} steps`;
    const length = Number(find("duration").value) || Math.min(30, model.longest_s);
    const chosen = Number(find("steps").value) || steps;
    const expected = expectedSeconds(model.name, length * Number(find("batch").value), chosen);
    find("estimate").textContent = expected
      ? `${neat(length)} s of music, about ${Math.max(1, Math.round(expected))} s to make here`
      : "";
  }

  #keep() {
    const values = Object.fromEntries(new FormData(this.form));
    localStorage.setItem(PLACE, JSON.stringify({ ...values, locked: this.isLocked }));
  }

  #restore() {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? "null");
    if (!kept) return;
    for (const [name, value] of Object.entries(kept)) {
      const input = this.form.elements[name];
      if (!input || (input instanceof HTMLSelectElement && !has(input, value))) continue;
      if (input.type === "checkbox") input.checked = true;
      else input.value = value;
    }
    this.lock(Boolean(kept.locked));
  }
}

const has = (select, value) => [...select.options].some((option) => option.value === value);

/** A number where the text is one: the server says what it thinks of anything else. */
function number(text) {
  const value = text.trim().replace(",", ".");
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : text.trim();
}
