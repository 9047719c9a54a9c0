// Play, loop, seek, compare; the clock, the playhead and the meter, drawn while there is motion.

import { clock, find } from "./dom.js";
import { colour } from "./theme.js";

const FLOOR_DB = -60;
const FALL = 0.92;

export class Transport {
  #levels = [0, 0];
  #isWanted = false;

  constructor(engine, stage, selection) {
    Object.assign(this, { engine, stage, selection });
    find("play").addEventListener("click", () => this.toggle());
    find("to-start").addEventListener("click", () => this.toStart());
    find("loop").addEventListener("click", () => this.toggleLoop());
    find("deck-a").addEventListener("click", () => stage.setDeck("A"));
    find("deck-b").addEventListener("click", () => stage.setDeck("B"));
    find("position").addEventListener("input", ({ target }) => engine.seek(Number(target.value)));
    find("volume").addEventListener("input", ({ target }) => {
      engine.volume = Number(target.value);
    });
    engine.on("state", () => this.#stateChanged());
    engine.on("move", () => this.#want());
    stage.on("change", () => this.fit());
    stage.on("grid", () => this.#want());
    stage.on("deck", (deck) => this.#showDeck(deck));
    selection.on("seek", (time) => engine.seek(time));
    selection.on("change", () => this.#applyLoop());
  }

  toggle() {
    if (this.engine.isPlaying) this.engine.pause();
    else this.engine.play();
  }

  toStart() {
    this.engine.seek(this.isLooping && this.selection.region ? this.selection.region.start : 0);
  }

  get isLooping() {
    return find("loop").getAttribute("aria-pressed") === "true";
  }

  toggleLoop(isOn = !this.isLooping) {
    find("loop").setAttribute("aria-pressed", String(isOn));
    this.#applyLoop();
  }

  /** Move by beats (seconds where there is no tempo). */
  step(count, byBar) {
    const { grid } = this.stage;
    const size = grid.beat ? (byBar ? grid.bar : grid.beat) : byBar ? 5 : 1;
    const at = this.engine.position + count * size;
    this.engine.seek(grid.beat ? grid.snapped(at) : at);
  }

  #applyLoop() {
    const { region } = this.selection;
    const whole = { start: 0, end: this.engine.duration };
    this.engine.setLoop(this.isLooping && this.engine.duration ? (region ?? whole) : null);
  }

  /** What is on the stage has changed. */
  fit() {
    const { duration } = this.engine;
    find("position").max = duration || 1;
    find("position").disabled = !duration;
    for (const id of ["play", "to-start", "loop"]) find(id).disabled = !duration;
    find("ab").hidden = !this.stage.b;
    this.#showDeck(this.engine.deck);
    this.#applyLoop();
    this.#want();
  }

  #showDeck(deck) {
    find("deck-a").setAttribute("aria-pressed", String(deck === "A"));
    find("deck-b").setAttribute("aria-pressed", String(deck === "B"));
    const { b, lanes } = this.stage;
    if (!b) return;
    find("deck-b").title = b.title;
    find("deck-a").title = this.stage.a.title;
    const trim = Math.min(...lanes.filter((lane) => lane.deck).map((lane) => lane.trim));
    find("ab-note").textContent =
      trim > 0.99 ? "level" : `${(20 * Math.log10(trim)).toFixed(1)} dB`;
    find("ab-note").title = "The louder one is turned down, so that they are equally loud";
  }

  #stateChanged() {
    const { isPlaying } = this.engine;
    const play = find("play");
    play.querySelector("use").setAttribute("href", isPlaying ? "#i-pause" : "#i-play");
    play.querySelector(".sr").textContent = isPlaying ? "Pause" : "Play";
    this.#want();
  }

  #want() {
    if (this.#isWanted) return;
    this.#isWanted = true;
    requestAnimationFrame(() => {
      this.#isWanted = false;
      this.engine.tick();
      this.#show();
      if (this.engine.isPlaying || Math.max(...this.#levels) > 0.001) this.#want();
    });
  }

  #show() {
    const { engine, stage } = this;
    const { position, duration } = engine;
    const share = duration ? position / duration : 0;
    const head = find("playhead");
    head.hidden = !duration;
    head.style.left = `${share * 100}%`;
    find("time").textContent = clock(position);
    find("bars").textContent = duration ? stage.grid.place(position) || clock(position) : "–";
    const slider = find("position");
    slider.value = position;
    slider.style.setProperty("--share", share);
    slider.setAttribute("aria-valuetext", `${clock(position)} of ${clock(duration)}`);
    if (engine.isPlaying) this.#follow(share);
    this.#meter();
  }

  /** Keep the playhead in sight where the stage is zoomed. */
  #follow(share) {
    const scroller = find("scroller");
    const x = share * find("canvas").clientWidth - scroller.scrollLeft;
    if (x < 0 || x > scroller.clientWidth) scroller.scrollLeft += x - scroller.clientWidth * 0.1;
  }

  #meter() {
    const peaks = this.engine.isPlaying ? this.engine.peaks() : [0, 0];
    this.#levels = this.#levels.map((level, i) => Math.max(peaks[i] ?? 0, level * FALL));
    const canvas = find("meter");
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.#levels.forEach((level, i) => {
      const share = Math.max(0, 1 - (20 * Math.log10(level + 1e-9)) / FLOOR_DB);
      context.fillStyle = colour(level > 0.98 ? "stop" : "accent");
      context.fillRect(0, i * 7, share * canvas.width, 5);
    });
  }
}
