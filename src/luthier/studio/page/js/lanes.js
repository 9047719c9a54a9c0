// Draws the stage: lanes with their heads, the ruler, the beats, the zoom.

import { analyse } from "./analysis.js";
import { button, find, make } from "./dom.js";
import { summary } from "./peaks.js";
import { drawWaveform, redraw } from "./waveform.js";

const HUES = ["wave", "wave-2", "wave-3", "wave-4", "wave-5"];
const SPECTRUM = { width: 1400, height: 160 };
const SILENT_DB = -48;

export class Lanes {
  #drawn = [];
  #soon = 0;

  constructor(stage, { removed }) {
    this.stage = stage;
    this.removed = removed;
    find("zoom").addEventListener("input", () => this.zoom());
    for (const input of document.querySelectorAll("[name=look]")) {
      input.addEventListener("change", () => this.look());
    }
    new ResizeObserver(() => {
      this.ruler();
      this.#later();
    }).observe(find("canvas"));
  }

  /** Draw everything anew. */
  draw() {
    for (const waveform of this.#drawn) waveform.destroy();
    this.#drawn = [];
    find("heads").replaceChildren();
    find("lanes").replaceChildren();
    const { lanes, engine } = this.stage;
    const bases = lanes.filter((lane) => lane.deck);
    const rows = [bases, ...lanes.filter((lane) => !lane.deck).map((lane) => [lane])];
    rows.filter((row) => row.length).forEach((row, index) => this.#row(row, index));
    this.deck(engine.deck);
    this.look();
    this.ruler();
  }

  /** Which of the compared takes is seen. */
  deck(deck) {
    for (const place of document.querySelectorAll(".lane [data-deck]")) {
      // Not hidden altogether: both keep their size, and are drawn for it.
      place.classList.toggle("behind", place.dataset.deck !== deck);
    }
    const base = find("heads").firstElementChild;
    if (!base) return;
    const take = this.stage.current;
    base.querySelector(".lane-name").textContent = this.stage.b ? `Take ${deck}` : "Take";
    base.querySelector(".lane-name").title = take.title;
    base.querySelector(".gain").value = decibelsOf(this.#laneOfDeck(deck).gain);
  }

  /** Colours changed. */
  repaint() {
    this.#drawn.forEach(redraw);
  }

  /** A waveform notices a new width by itself, but not a new height. */
  #later() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.repaint(), 120);
  }

  zoom() {
    const scroller = find("scroller");
    const canvas = find("canvas");
    const share = this.stage.engine.position / (this.stage.engine.duration || 1);
    canvas.style.width = `${100 * 2 ** Number(find("zoom").value)}%`;
    scroller.scrollLeft = share * canvas.clientWidth - scroller.clientWidth / 2;
  }

  /** Waves or spectrograms. */
  look() {
    const isSpectrum = document.querySelector("[name=look]:checked").value === "spectrum";
    find("lanes").classList.toggle("spectral", isSpectrum);
    if (!isSpectrum) return;
    for (const lane of this.stage.lanes) {
      const place = document.querySelector(`.wave[data-lane="${CSS.escape(lane.id)}"]`);
      if (place && !place.querySelector(".spectrum")) this.#spectrum(place, lane);
    }
  }

  /** Bars and beats, as far as they are known. */
  ruler() {
    const { grid, engine } = this.stage;
    const width = find("canvas").clientWidth;
    const ruler = find("ruler");
    ruler.replaceChildren();
    if (!engine.duration || !width) return;
    ruler.setAttribute("viewBox", `0 0 ${width} 24`);
    for (const { x, text } of grid.labels(engine.duration, width)) {
      ruler.append(drawn("path", { d: `M${x.toFixed(1)} 8V24` }));
      ruler.append(Object.assign(drawn("text", { x: x + 4, y: 17 }), { textContent: text }));
    }
    const scale = width / engine.duration;
    const beats = find("beats");
    beats.hidden = !grid.beat;
    beats.classList.toggle("coarse", grid.beat * scale < 6);
    beats.style.setProperty("--first", `${grid.first * scale}px`);
    beats.style.setProperty("--beat", `${grid.beat * scale}px`);
    beats.style.setProperty("--bar", `${grid.bar * scale}px`);
  }

  #laneOfDeck(deck) {
    return this.stage.lanes.find((lane) => lane.deck === deck) ?? this.stage.lanes[0];
  }

  #row(lanes, index) {
    const hue = HUES[index % HUES.length];
    find("heads").append(this.#head(lanes, hue));
    const row = make("div", { className: "lane" });
    find("lanes").append(row);
    for (const lane of lanes) {
      const place = make("div", { className: "wave", "data-lane": lane.id });
      if (lane.deck) place.dataset.deck = lane.deck;
      row.append(place);
      this.#drawn.push(drawWaveform(place, summary(lane.buffer), lane.buffer.duration, hue));
    }
  }

  #head(lanes, hue) {
    const [{ take, deck }] = lanes;
    const name = deck ? "Take" : take.title.replaceAll("_", " ");
    const now = () => (deck ? this.#laneOfDeck(this.stage.engine.deck) : lanes[0]);
    const toggle = (letter, words, property) => {
      const made = make("button", {
        type: "button",
        className: `toggle ${property}`,
        title: words,
        "aria-pressed": String(lanes[0][property]),
        "aria-label": `${words} ${name}`,
        textContent: letter,
      });
      made.addEventListener("click", () => {
        const value = !now()[property];
        for (const lane of lanes) this.stage.mix(lane, { [property]: value });
        made.setAttribute("aria-pressed", String(value));
      });
      return made;
    };
    const gain = this.#gain(name, now);
    const remove = deck ? null : button({ icon: "close", words: `Take ${name} off the stage` });
    remove?.addEventListener("click", () => this.removed(take));
    return make(
      "li",
      { className: `lane-head hue-${hue}` },
      make("span", { className: "lane-name", title: take.title }, name),
      make(
        "span",
        { className: "lane-acts" },
        toggle("M", "Mute", "muted"),
        toggle("S", "Solo", "solo"),
        remove,
      ),
      gain,
    );
  }

  #gain(name, now) {
    const input = make("input", {
      type: "range",
      className: "gain",
      min: SILENT_DB,
      max: 6,
      step: 0.5,
      value: decibelsOf(now().gain),
      "aria-label": `Gain of ${name}, decibels`,
    });
    const tell = () => {
      input.title = `${input.value} dB: double click for 0`;
    };
    const set = () => {
      const decibels = Number(input.value);
      this.stage.mix(now(), { gain: decibels <= SILENT_DB ? 0 : 10 ** (decibels / 20) });
      tell();
    };
    input.addEventListener("input", set);
    input.addEventListener("dblclick", () => {
      input.value = 0;
      set();
    });
    tell();
    return input;
  }

  async #spectrum(place, lane) {
    const canvas = make("canvas", { className: "spectrum", ...SPECTRUM });
    place.append(canvas);
    const { width, height } = SPECTRUM;
    const found = await analyse("spectrogram", lane.buffer, width, height);
    canvas.getContext("2d").putImageData(new ImageData(found.pixels, width, height), 0, 0);
  }
}

const decibelsOf = (gain) => (gain ? 20 * Math.log10(gain) : SILENT_DB);

function drawn(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
