// Bars and beats: a tempo, a metre and a first beat → lines, labels, and the nearest beat.

const STEPS = [1, 2, 4, 8, 16, 32, 64];
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120];
const LABEL_ROOM = 46;

/** A grid without a tempo only knows seconds. */
export class Grid {
  constructor({ bpm = null, metre = 4, first = 0 } = {}) {
    this.bpm = bpm;
    this.metre = metre;
    this.beat = bpm ? 60 / bpm : 0;
    // Bars are counted from the first beat that is there, or from just before the start.
    this.first = bpm ? first : 0;
  }

  get bar() {
    return this.beat * this.metre;
  }

  /** "3.2" for the second beat of the third bar; "" without a tempo. */
  place(time) {
    if (!this.beat) return "";
    const beats = Math.floor((time - this.first) / this.beat + 1e-4);
    const bar = Math.floor(beats / this.metre);
    return `${bar + 1}.${beats - bar * this.metre + 1}`;
  }

  /** The beat nearest to a time; the time itself without a tempo. */
  snapped(time) {
    if (!this.beat) return time;
    return this.first + Math.round((time - this.first) / this.beat) * this.beat;
  }

  /** The labels of a ruler `width` pixels wide: {x, text, strong}. */
  labels(duration, width) {
    const scale = width / duration;
    return this.beat ? this.#bars(duration, scale) : seconds(duration, scale);
  }

  #bars(duration, scale) {
    const step = STEPS.find((bars) => bars * this.bar * scale >= LABEL_ROOM) ?? 128;
    const found = [];
    for (let bar = 0; this.first + bar * this.bar < duration - 1e-6; bar += step) {
      found.push({ x: (this.first + bar * this.bar) * scale, text: String(bar + 1) });
    }
    return found;
  }
}

function seconds(duration, scale) {
  const step = SECONDS.find((length) => length * scale >= LABEL_ROOM) ?? 300;
  const found = [];
  for (let time = 0; time < duration; time += step) {
    const rest = String(time % 60).padStart(2, "0");
    found.push({ x: time * scale, text: `${Math.floor(time / 60)}:${rest}` });
  }
  return found;
}
