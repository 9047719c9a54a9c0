// What was asked for here and became of it: kept over reloads, and brought up to date by the server.
//
// A job is one task: {id, created, state, progress, stage, error, position, sent, parent, title,
// task, track, region, pieces}. Its pieces are takes: {id, title, link, duration, seed, …}.

import { Refusal, ask } from "./api.js";
import { Events } from "./events.js";
import { neat } from "./dom.js";

const PLACE = "luthier.studio.takes";
const MOST_KEPT = 200;
const PAGE = 200;
export const ACTIVE = ["queued", "running"];

/** Emits "change" when anything is new, "made" with the takes of a job that succeeded, and
 * "failed" with a job. */
export class Takes extends Events {
  jobs = new Map();
  #files = new Map();

  load() {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    for (const job of kept) this.jobs.set(job.id, job);
  }

  /** Ask the server about everything that is known here, and take up what it knows besides. */
  async sync() {
    const { tasks, next } = await ask(`/v1/tasks?limit=${PAGE}`);
    const seen = new Map(tasks.map((task) => [task.task_id, task]));
    for (const task of tasks) {
      if (this.jobs.has(task.task_id)) this.update(task, { quietly: true });
      else if (task.state === "succeeded") this.#adopt(task);
    }
    for (const job of this.jobs.values()) {
      if (!seen.has(job.id) && job.state !== "gone") await this.#missing(job, next === null);
    }
    this.#changed();
  }

  async #missing(job, isSure) {
    if (isSure) {
      job.state = "gone";
      return;
    }
    try {
      this.update(await ask(`/v1/tasks/${job.id}`), { quietly: true });
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 404) throw error;
      job.state = "gone";
    }
  }

  #adopt(task) {
    const [result] = task.results;
    if (!result?.request) return;
    const { request } = result;
    const job = { id: task.task_id, created: task.created * 1000, sent: null, pieces: [] };
    this.jobs.set(job.id, { ...job, ...facts(request, result.prompt), state: "queued" });
    this.update(task, { quietly: true });
  }

  add(job) {
    this.jobs.set(job.id, { progress: 0, stage: "", pieces: [], created: Date.now(), ...job });
    this.#changed();
  }

  /** Take up what the server says of a task. */
  update(task, { quietly = false } = {}) {
    const job = this.jobs.get(task.task_id);
    if (!job) return;
    const wasActive = ACTIVE.includes(job.state);
    Object.assign(job, {
      state: task.state,
      progress: task.progress,
      stage: task.stage,
      error: task.error,
      position: task.queue_position || job.position,
      eta: task.eta_seconds,
      told: Date.now(),
    });
    if (task.state === "succeeded") {
      const made = task.results.filter((result) => result.file && result.request);
      job.pieces = made.map((result, index) => pieceOf(job, result, index));
    }
    if (quietly) return;
    this.#changed();
    if (wasActive && task.state === "succeeded") this.emit("made", job.pieces);
    if (wasActive && task.state === "failed") this.emit("failed", job);
  }

  /** A recording of this computer as a take; it lasts until the page is closed. */
  addFile(file, buffer, bpm) {
    const id = `file:${crypto.randomUUID()}`;
    const { duration, sampleRate } = buffer;
    const take = {
      id,
      file,
      title: file.name,
      task: "file",
      duration,
      sampleRate,
      bpm,
      lyrics: "",
    };
    this.#files.set(id, take);
    return take;
  }

  get(id) {
    if (this.#files.has(id)) return this.#files.get(id);
    return this.jobs.get(id?.split("/")[0])?.pieces.find((piece) => piece.id === id) ?? null;
  }

  /** All takes that can be heard, the newest first. */
  all() {
    return [...this.jobs.values()]
      .filter((job) => job.state === "succeeded")
      .sort((a, b) => b.created - a.created)
      .flatMap((job) => job.pieces);
  }

  /** A take, what it was made from, and so on. */
  lineage(take) {
    const found = [];
    for (let at = take; at && !found.includes(at); at = this.get(at.parent)) found.push(at);
    return found;
  }

  /** Remember something about a take: its thumbnail, or that it is off the stage. */
  note(take, values) {
    Object.assign(take, values);
    this.#changed();
  }

  forget(id) {
    this.jobs.delete(id);
    this.#changed();
  }

  #changed() {
    const jobs = [...this.jobs.values()].sort((a, b) => b.created - a.created).slice(0, MOST_KEPT);
    localStorage.setItem(PLACE, JSON.stringify(jobs.map(unsigned)));
    this.emit("change");
  }
}

/** Links are not kept: signed ones end, and the server gives new ones. */
const unsigned = (job) => ({
  ...job,
  pieces: job.pieces.map((piece) => ({ ...piece, link: null })),
});

function facts(request, prompt) {
  const region = request.repaint_regions?.[0] ?? [request.repaint_start_s, request.repaint_end_s];
  const hasRegion = ["repaint", "lego"].includes(request.task) && region[1] !== null;
  return {
    task: request.task,
    track: request.tracks?.join(", ") || null,
    region: hasRegion ? { start: region[0], end: region[1] } : null,
    title: titleOf(request.task, prompt, request.tracks),
  };
}

function titleOf(task, prompt, tracks) {
  const named = ["lego", "extract"].includes(task) && tracks?.length;
  return named ? tracks.join(", ").replaceAll("_", " ") : prompt || "Without words";
}

function pieceOf(job, result, index) {
  const { request } = result;
  const old = job.pieces[index] ?? {};
  return {
    ...facts(request, result.prompt),
    title: job.title,
    id: `${job.id}/${index}`,
    parent: job.parent ?? null,
    created: job.created,
    link: result.file,
    prompt: result.prompt,
    lyrics: result.lyrics,
    seed: result.seed,
    duration: result.duration_s,
    sampleRate: result.sample_rate,
    bpm: request.bpm,
    key: request.key,
    time_signature: request.time_signature,
    model: result.dit_model,
    steps: request.steps,
    format: new URLSearchParams(result.file.split("?")[1]).get("path").split(".").pop(),
    thumb: old.thumb ?? null,
    isOff: old.isOff ?? false,
  };
}

/** "84 bpm", "A minor": what is known of a take, in words. */
export function factsOf(take) {
  const metre = { 2: "2/4", 3: "3/4", 4: "4/4", 6: "6/8" }[take.time_signature];
  return [
    take.bpm && `${take.bpm} bpm`,
    take.key,
    metre,
    `${neat(take.duration)} s`,
    take.model,
    take.seed !== undefined && `seed ${take.seed}`,
  ].filter(Boolean);
}
