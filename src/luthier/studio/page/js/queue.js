// Follows the tasks that are under way: by server-sent events, or by asking again and again.

import { Refusal, ask, changesOf } from "./api.js";
import { ACTIVE } from "./takes.js";

const POLL_MS = 1500;
// A browser opens six connections to a server: streams must leave some for everything else.
const MOST_STREAMS = 2;

export class Queue {
  #streams = 0;
  #followed = new Set();

  constructor(takes) {
    this.takes = takes;
  }

  /** Follow every task that has not ended. */
  followAll() {
    for (const job of this.takes.jobs.values()) {
      if (ACTIVE.includes(job.state)) this.follow(job.id);
    }
  }

  async follow(id) {
    if (this.#followed.has(id)) return;
    this.#followed.add(id);
    try {
      while (this.#isActive(id)) {
        if (this.#streams < MOST_STREAMS) await this.#stream(id);
        if (this.#isActive(id)) await this.#poll(id);
      }
    } finally {
      this.#followed.delete(id);
    }
  }

  cancel(id) {
    return ask(`/v1/tasks/${id}/cancel`, { method: "POST" }).then((task) =>
      this.takes.update(task),
    );
  }

  async retry(id) {
    this.takes.update(await ask(`/v1/tasks/${id}/retry`, { method: "POST" }));
    this.follow(id);
  }

  async remove(id) {
    try {
      await ask(`/v1/tasks/${id}`, { method: "DELETE" });
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    this.takes.forget(id);
  }

  #isActive(id) {
    return ACTIVE.includes(this.takes.jobs.get(id)?.state);
  }

  async #stream(id) {
    this.#streams += 1;
    try {
      for await (const task of changesOf(id)) this.takes.update(task);
    } catch (error) {
      this.#settle(id, error);
    } finally {
      this.#streams -= 1;
    }
  }

  async #poll(id) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    try {
      this.takes.update(await ask(`/v1/tasks/${id}`));
    } catch (error) {
      this.#settle(id, error);
    }
  }

  /** A task that is not there any more has ended; whatever else happened may pass. */
  #settle(id, error) {
    if (error instanceof Refusal && [401, 404].includes(error.status)) {
      this.takes.update({ task_id: id, state: "gone", progress: 0, stage: "", error: null });
    }
  }
}

/** How long a job still takes, seconds, or null while nobody can know. */
export function secondsLeft(job, now = Date.now()) {
  return job.eta === null || job.eta === undefined
    ? null
    : Math.max(0, job.eta - (now - job.told) / 1000);
}
