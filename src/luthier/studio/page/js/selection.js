// The region that is chosen on the stage: dragged, moved by its edges, typed, or set by keys.

import { Events } from "./events.js";
import { clock, find } from "./dom.js";

const SHORTEST_S = 0.1;
const DRAG_PX = 4;
const FINE_S = 0.05;

/** Emits "change" with {start, end} or null, and "seek" with a time when the stage is clicked. */
export class Selection extends Events {
  region = null;
  #duration = 0;
  #grid = null;

  constructor() {
    super();
    this.canvas = find("canvas");
    this.box = find("selection");
    this.canvas.addEventListener("pointerdown", (event) => this.#press(event));
    for (const side of ["start", "end"]) {
      const edge = this.box.querySelector(`.${side}`);
      edge.addEventListener("keydown", (event) => this.#nudge(event, side));
    }
  }

  /** A new take is on the stage. */
  fit(duration, grid) {
    this.#duration = duration;
    this.#grid = grid;
    if (this.region && this.region.start >= duration) this.set(null);
    else this.#show();
  }

  get snaps() {
    return find("snap").checked;
  }

  set(region) {
    this.region = region && this.#ordered(region.start, region.end);
    this.#show();
    this.emit("change", this.region);
  }

  /** Set one side, at the playhead for example; the other one is kept where it can be. */
  setSide(side, time) {
    const { start, end } = this.region ?? { start: 0, end: this.#duration };
    if (side === "start") this.set({ start: time, end: end > time ? end : this.#duration });
    else this.set({ start: start < time ? start : 0, end: time });
  }

  #ordered(a, b) {
    const start = Math.max(0, Math.min(a, b));
    const end = Math.min(this.#duration, Math.max(a, b));
    return end - start < SHORTEST_S ? null : { start, end };
  }

  #show() {
    this.box.hidden = !this.region;
    if (!this.region) return;
    const { start, end } = this.region;
    const share = (time) => `${(time / this.#duration) * 100}%`;
    this.box.style.left = share(start);
    this.box.style.width = share(end - start);
    for (const [side, time] of [
      ["start", start],
      ["end", end],
    ]) {
      const edge = this.box.querySelector(`.${side}`);
      edge.setAttribute("aria-valuemin", 0);
      edge.setAttribute("aria-valuemax", this.#duration);
      edge.setAttribute("aria-valuenow", time.toFixed(2));
      edge.setAttribute("aria-valuetext", `${clock(time)} ${this.#grid.place(time)}`);
    }
  }

  #time(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - left) / width)) * this.#duration;
  }

  #settled(time, event) {
    return this.snaps && !event.altKey ? this.#grid.snapped(time) : time;
  }

  #press(event) {
    if (event.button !== 0 || !this.#duration) return;
    const side = ["start", "end"].find((name) => event.target.classList.contains(name));
    const anchor = side ? this.region[side === "start" ? "end" : "start"] : this.#time(event);
    const from = event.clientX;
    let isDrag = Boolean(side);
    this.canvas.setPointerCapture(event.pointerId);
    const move = (moved) => {
      isDrag ||= Math.abs(moved.clientX - from) > DRAG_PX;
      if (!isDrag) return;
      const start = side ? anchor : this.#settled(anchor, moved);
      this.region = this.#ordered(start, this.#settled(this.#time(moved), moved));
      this.#show();
    };
    const release = (released) => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", release);
      this.canvas.removeEventListener("pointercancel", release);
      if (isDrag) this.emit("change", this.region);
      else if (released.type === "pointerup") this.emit("seek", this.#time(released));
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", release);
    this.canvas.addEventListener("pointercancel", release);
  }

  #nudge(event, side) {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const size = this.snaps && !event.shiftKey && this.#grid.beat ? this.#grid.beat : FINE_S;
    const moved = this.region[side] + step * size;
    const next = { ...this.region, [side]: size === FINE_S ? moved : this.#grid.snapped(moved) };
    if (next.end - next.start >= SHORTEST_S) this.set(next);
  }
}
