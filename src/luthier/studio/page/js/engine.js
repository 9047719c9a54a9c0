// Plays lanes together, from one clock: every lane starts at the same sample, and loops there too.

import { Events } from "./events.js";

const FADE_S = 0.008;
const AHEAD_S = 0.03;

/**
 * Lanes are {id, buffer, gain, muted, solo, deck, trim}: `deck` is "A" or "B" for what is compared,
 * null for what always plays; `trim` matches a deck's level. Emits "state" when it starts or stops,
 * and "move" when it was moved.
 */
export class Engine extends Events {
  lanes = new Map();
  deck = "A";
  loop = null;
  duration = 0;
  #context = null;
  #volume = 0.8;
  #master = null;
  #meters = [];
  #voices = new Map();
  #from = 0;
  #since = 0;
  isPlaying = false;

  /** Where it is, seconds. */
  get position() {
    if (!this.isPlaying) return this.#from;
    const late = this.#context.outputLatency || 0;
    const passed = Math.max(0, this.#context.currentTime - late - this.#since);
    return this.#folded(this.#from + passed);
  }

  #folded(time) {
    const { loop } = this;
    if (this.#isLooping && time > loop.end) {
      return loop.start + ((time - loop.start) % (loop.end - loop.start));
    }
    return Math.min(time, this.duration);
  }

  /** Who moved behind the loop plays on to the end. */
  get #isLooping() {
    return Boolean(this.loop) && this.#from < this.loop.end;
  }

  get volume() {
    return this.#volume;
  }

  set volume(value) {
    this.#volume = value;
    if (this.#master) glide(this.#master.gain, value ** 2, this.#context);
  }

  /** Put `lanes` on; what plays goes on where it is. */
  setLanes(lanes, duration) {
    const wasPlaying = this.isPlaying;
    const at = this.position;
    this.#silence();
    this.lanes = new Map(lanes.map((lane) => [lane.id, lane]));
    this.duration = duration;
    this.#from = Math.min(at, duration);
    if (wasPlaying && lanes.length) this.#start(this.#from);
    else if (wasPlaying) this.pause();
  }

  async play() {
    if (!this.lanes.size || this.isPlaying) return;
    this.#prepare();
    await this.#context.resume();
    if (this.isPlaying) return;
    if (this.#from >= this.duration - 0.01) this.#from = 0;
    if (this.loop && this.#from >= this.loop.end) this.#from = this.loop.start;
    this.#start(this.#from);
    this.isPlaying = true;
    this.emit("state");
  }

  pause() {
    if (!this.isPlaying) return;
    this.#from = this.position;
    this.isPlaying = false;
    this.#silence();
    this.emit("state");
  }

  seek(time) {
    const at = Math.max(0, Math.min(time, this.duration));
    if (this.isPlaying) {
      this.#silence();
      this.#start(at);
    } else {
      this.#from = at;
    }
    this.emit("move");
  }

  /** {start, end} in seconds, or null. */
  setLoop(loop) {
    const at = this.position;
    this.loop = loop;
    if (!this.isPlaying) return;
    this.#from = at;
    this.#since = this.#context.currentTime - (this.#context.outputLatency || 0);
    for (const { source } of this.#voices.values()) this.#loopVoice(source, at);
  }

  /** Which of the compared takes is heard. */
  setDeck(deck) {
    this.deck = deck;
    this.refresh();
  }

  /** Take up changed gains, mutes and solos. */
  refresh() {
    for (const [id, { gain }] of this.#voices) {
      glide(gain.gain, this.heard(this.lanes.get(id)), this.#context);
    }
  }

  /** The gain at which a lane is heard now. */
  heard(lane) {
    const someSolo = [...this.lanes.values()].some((other) => other.solo);
    const isOut = lane.muted || (someSolo && !lane.solo) || (lane.deck && lane.deck !== this.deck);
    return isOut ? 0 : lane.gain * lane.trim;
  }

  /** Peaks of the last moment, left and right, 0 to 1. */
  peaks() {
    return this.#meters.map(({ node, samples }) => {
      node.getFloatTimeDomainData(samples);
      return samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    });
  }

  /** Everything that is heard, mixed; `trim` is left out, as it only serves comparing. */
  async mixdown(sampleRate) {
    const context = new OfflineAudioContext(2, Math.round(this.duration * sampleRate), sampleRate);
    for (const lane of this.lanes.values()) {
      const value = this.heard({ ...lane, trim: 1 });
      if (!value) continue;
      const source = new AudioBufferSourceNode(context, { buffer: lane.buffer });
      source.connect(new GainNode(context, { gain: value })).connect(context.destination);
      source.start();
    }
    return context.startRendering();
  }

  #prepare() {
    if (this.#context) return;
    // At the rate of what is played first: then nothing is resampled.
    const { sampleRate } = this.lanes.values().next().value.buffer;
    const context = new AudioContext({ sampleRate });
    this.#context = context;
    this.#master = new GainNode(context, { gain: this.#volume ** 2 });
    const split = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
    this.#master.connect(context.destination);
    this.#master.connect(split);
    this.#meters = [0, 1].map((channel) => {
      const node = new AnalyserNode(context, { fftSize: 1024 });
      split.connect(node, channel);
      return { node, samples: new Float32Array(node.fftSize) };
    });
  }

  #start(at) {
    const when = this.#context.currentTime + AHEAD_S;
    this.#from = at;
    this.#since = when;
    for (const [id, lane] of this.lanes) {
      const source = new AudioBufferSourceNode(this.#context, { buffer: lane.buffer });
      const gain = new GainNode(this.#context, { gain: this.heard(lane) });
      source.connect(gain).connect(this.#master);
      this.#loopVoice(source, at);
      source.start(when, at);
      this.#voices.set(id, { source, gain });
    }
  }

  #loopVoice(source, at) {
    source.loop = Boolean(this.loop) && at < this.loop.end;
    source.loopStart = source.loop ? this.loop.start : 0;
    source.loopEnd = source.loop ? this.loop.end : 0;
  }

  #silence() {
    for (const { source, gain } of this.#voices.values()) {
      glide(gain.gain, 0, this.#context);
      source.stop(this.#context.currentTime + 5 * FADE_S);
    }
    this.#voices.clear();
  }

  /** Call often: stops at the end. */
  tick() {
    if (this.isPlaying && !this.#isLooping && this.position >= this.duration) {
      this.pause();
      this.seek(0);
    }
  }
}

function glide(parameter, value, context) {
  parameter.setTargetAtTime(value, context.currentTime, FADE_S);
}
