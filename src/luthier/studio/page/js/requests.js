// What the parts of the page ask for → requests, queued and remembered.

import { release } from "./api.js";
import { modelNamed } from "./capabilities.js";
import { factsForEdit } from "./dock.js";
import { clearRefusal, showNotes, showRefusal } from "./fields.js";
import { pathOf } from "./reference.js";
import { wavFile } from "./wav.js";

const LISTENS_TO_ALL = ["lego", "complete"];

export class Requests {
  constructor({ takes, queue, stage, engine, composer, reference }) {
    Object.assign(this, { takes, queue, stage, engine, composer, reference });
  }

  /** A new piece, from the form. */
  song() {
    const values = this.composer.song();
    const { values: named, files } = this.reference.parts();
    const length = Number(values.duration_s) || Math.min(30, modelNamed(values.model).longest_s);
    const about = { task: "text2music", title: values.prompt || "Without words", length };
    return { values: { ...values, ...named }, files, about };
  }

  /** Work on the take that is heard. */
  async edit({ task, values, region, tracks }) {
    const take = this.stage.current;
    const source = await this.#source(task, take);
    const timbre = task === "cover" ? this.reference.parts() : { values: {}, files: {} };
    const title = ["lego", "extract"].includes(task)
      ? tracks.join(", ").replaceAll("_", " ")
      : values.prompt;
    const about = {
      task,
      region,
      parent: take.id,
      title: title || take.title,
      track: tracks.join(", ") || null,
    };
    const sent = { ...factsForEdit(take), ...this.composer.engine(), ...values };
    return {
      values: { ...sent, ...source.values, ...timbre.values },
      files: { ...source.files, ...timbre.files },
      about: { ...about, length: take.duration },
    };
  }

  /** A new track hears everything that plays; other tasks work on the take alone. */
  async #source(task, take) {
    const others = this.stage.lanes.filter((lane) => !lane.deck && this.engine.heard(lane));
    if (LISTENS_TO_ALL.includes(task) && others.length) {
      const mix = await this.engine.mixdown(take.sampleRate);
      return { values: {}, files: { ctx_audio: wavFile(mix, 16, "mix.wav") } };
    }
    if (take.file) return { values: {}, files: { ctx_audio: take.file } };
    return { values: { src_audio_path: pathOf(take) }, files: {} };
  }

  /** Send a request; what the server says against it is shown in `form`. */
  async send({ values, files, about }, form, general) {
    clearRefusal(form, general);
    try {
      const said = await release(values, files);
      const names = Object.fromEntries(
        Object.entries(files).map(([part, { name }]) => [part, { name }]),
      );
      const job = { id: said.task_id, state: said.status, position: said.queue_position };
      this.takes.add({ ...job, sent: values, sentFiles: names, ...about });
      this.queue.follow(said.task_id);
      showNotes(form, said.notes);
      return true;
    } catch (error) {
      showRefusal(form, general, error.message);
      return false;
    }
  }

  /** The request that a take came from, as far as it is known. */
  of(take) {
    const job = this.takes.jobs.get(take.id.split("/")[0]);
    if (!job) return null;
    // A take is made again by its own seed, not by a new one.
    const seed = job.pieces.length === 1 ? { seed: take.seed } : { seed: job.pieces[0].seed };
    if (job.sent) return { values: { ...job.sent, ...seed }, files: job.sentFiles ?? {} };
    const values = { task: take.task, prompt: take.prompt, ...factsForEdit(take), ...seed };
    const length = take.task === "text2music" ? { duration_s: take.duration } : {};
    // Another client's task: which recording it worked on is not told.
    const files = take.task === "text2music" ? {} : { ctx_audio: { name: "source.wav" } };
    return {
      values: {
        ...values,
        ...length,
        model: take.model,
        steps: take.steps,
        batch_size: job.pieces.length,
      },
      files,
    };
  }
}
