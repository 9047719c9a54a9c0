// The line above the stage: what is being made for it, how far that is, and how to stop it.

import { button, find, make } from "./dom.js";
import { doing } from "./shelf.js";
import { ACTIVE } from "./takes.js";

export class Working {
  constructor(takes, cancel) {
    this.takes = takes;
    this.place = find("working");
    this.name = make("b");
    this.bar = make("progress", { max: 1, "aria-label": "Progress" });
    this.doing = make("span", { className: "doing" });
    const stop = button({ icon: "close", words: "Cancel this" });
    stop.addEventListener("click", () => cancel(this.job));
    this.place.append(this.name, this.bar, this.doing, stop);
    takes.on("change", () => this.draw());
    setInterval(() => this.draw(), 1000);
  }

  /** The one that runs, or else the one that is next. */
  get job() {
    const active = [...this.takes.jobs.values()].filter((job) => ACTIVE.includes(job.state));
    return active.find((job) => job.state === "running") ?? active[0];
  }

  draw() {
    const { job } = this;
    this.place.hidden = !job;
    if (!job) return;
    this.name.textContent = job.title;
    this.bar.value = job.state === "running" ? job.progress : 0;
    this.doing.textContent = doing(job);
  }
}
