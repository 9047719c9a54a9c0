// What is on the stage: the take (A), the one it is compared with (B), and the layers above it.

import { analyse } from "./analysis.js";
import { Events } from "./events.js";
import { Grid } from "./grid.js";
import { loudness } from "./loudness.js";
import { padded, soundOf } from "./sound.js";

const STEMS = ["lego", "extract"];
// How far onsets on the beat stand out, before what was heard counts more than what was asked for.
const CLEAR = 1.35;

export const isStem = (take) => STEMS.includes(take.task);

/** Emits "change" when other sounds are on, "grid" when the beats are known, "problem" in words. */
export class Stage extends Events {
  a = null;
  b = null;
  lanes = [];
  grid = new Grid();
  heard = null;
  #mix = new Map();
  #turn = 0;

  constructor(takes, engine) {
    super();
    this.takes = takes;
    this.engine = engine;
  }

  /** Put a take on, beside the one before it; a stem comes with what it was made for. */
  async show(take, { against = null } = {}) {
    const parent = this.takes.get(take.parent);
    if (isStem(take) && parent && isThere(parent)) {
      this.takes.note(take, { isOff: false });
      const base = this.a && this.takes.lineage(this.a).includes(parent) ? this.a : parent;
      await this.#load(base, this.a === base ? this.b : null);
      return;
    }
    const before = this.a === take ? this.b : this.a;
    await this.#load(
      take,
      [against, parent, before].find((other) => other && isThere(other)),
    );
  }

  /** Show the same takes again: a layer has come or gone. */
  reload() {
    return this.a && this.#load(this.a, this.b);
  }

  clear() {
    this.#turn += 1;
    [this.a, this.b, this.lanes] = [null, null, []];
    this.engine.pause();
    this.engine.setLanes([], 0);
    this.emit("change", { isNew: true });
  }

  /** Change a lane's gain, mute or solo. */
  mix(lane, values) {
    Object.assign(lane, values);
    const { gain, muted, solo } = lane;
    this.#mix.set(lane.take.id, { gain, muted, solo });
    this.engine.refresh();
  }

  setDeck(deck) {
    this.engine.setDeck(this.b ? deck : "A");
    this.emit("deck", this.engine.deck);
  }

  /** The take that is heard: A or B. */
  get current() {
    return this.engine.deck === "B" && this.b ? this.b : this.a;
  }

  async #load(a, b) {
    this.#turn += 1;
    const turn = this.#turn;
    const isNew =
      !this.a ||
      !this.takes
        .lineage(a)
        .concat(this.takes.lineage(this.a))
        .some((take, i, all) => all.indexOf(take) !== i);
    const layers = this.#layersOf(a);
    try {
      const wanted = [a, ...(b ? [b] : []), ...layers];
      this.emit("loading", true);
      const sounds = await Promise.all(wanted.map(soundOf));
      if (turn !== this.#turn) return;
      await this.#put(
        a,
        b ?? null,
        layers,
        new Map(wanted.map((t, i) => [t.id, sounds[i]])),
        isNew,
      );
    } catch (error) {
      if (turn === this.#turn) this.emit("problem", error.message);
    } finally {
      if (turn === this.#turn) this.emit("loading", false);
    }
  }

  #layersOf(a) {
    const line = this.takes.lineage(a).map((take) => take.id);
    return this.takes
      .all()
      .filter((take) => isStem(take) && !take.isOff && line.includes(take.parent))
      .reverse();
  }

  async #put(a, b, layers, sounds, isNew) {
    const turn = this.#turn;
    const levels = b
      ? await Promise.all([a, b].map((take) => loudness(sounds.get(take.id))))
      : [0, 0];
    if (turn !== this.#turn) return;
    const longest = Math.max(...[...sounds.values()].map((buffer) => buffer.duration));
    const lane = (take, deck, trim = 1) => ({
      id: `${take.id}${deck ?? ""}`,
      take,
      deck,
      trim,
      buffer: padded(sounds.get(take.id), longest),
      ...{ gain: 1, muted: take.task === "extract", solo: false },
      ...this.#mix.get(take.id),
    });
    [this.a, this.b] = [a, b];
    this.lanes = [
      lane(a, "A", matched(levels[0], levels[1])),
      ...(b ? [lane(b, "B", matched(levels[1], levels[0]))] : []),
      ...layers.map((take) => lane(take, null)),
    ];
    if (isNew) this.engine.pause();
    this.engine.deck = "A";
    this.engine.setLanes(this.lanes, longest);
    if (isNew) this.engine.seek(0);
    this.grid = new Grid({ bpm: a.bpm, metre: Number(a.time_signature) || 4 });
    this.heard = null;
    this.emit("change", { isNew });
    this.#listen(a, sounds.get(a.id), turn);
  }

  async #listen(take, buffer, turn) {
    const heard = await analyse("beats", buffer, take.bpm || null);
    if (turn !== this.#turn) return;
    this.heard = { ...heard, isClear: heard.strength >= CLEAR };
    if (this.heard.isClear) {
      const metre = Number(take.time_signature) || 4;
      this.grid = new Grid({ bpm: heard.bpm, metre, first: heard.first });
    }
    this.emit("grid");
  }
}

const isThere = (take) => Boolean(take.link || take.file);

/** The gain that brings the louder of two takes down to the other. */
function matched(own, other) {
  return Number.isFinite(own) && Number.isFinite(other)
    ? Math.min(1, 10 ** ((other - own) / 20))
    : 1;
}
