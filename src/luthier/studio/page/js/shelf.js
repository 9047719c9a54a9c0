// The list on the right: what is in the queue, and every take that was made.

import { button, find, make, neat } from "./dom.js";
import { thumbnailPath } from "./peaks.js";
import { secondsLeft } from "./queue.js";
import { ACTIVE } from "./takes.js";

const NAMES = {
  text2music: "New",
  cover: "Cover",
  repaint: "Repaint",
  lego: "Layer",
  extract: "Stem",
  complete: "Completed",
  file: "File",
};
const STATES = { failed: "failed", cancelled: "cancelled", gone: "deleted on the server" };

/** `acts` has open, compare, cancel, retry, remove and current (the takes on the stage). */
export class Shelf {
  constructor(takes, acts) {
    this.takes = takes;
    this.acts = acts;
    takes.on("change", () => this.draw());
    setInterval(() => this.#tick(), 1000);
  }

  draw() {
    const jobs = [...this.takes.jobs.values()].sort((a, b) => b.created - a.created);
    const active = jobs.filter((job) => ACTIVE.includes(job.state)).reverse();
    const past = jobs.filter((job) => !ACTIVE.includes(job.state));
    const focus = document.activeElement?.closest("[data-focus]")?.dataset.focus;
    keyed(find("queue"), active, (job) => this.#waiting(job));
    find("past").replaceChildren(...past.flatMap((job) => this.#rows(job)));
    find("queue-part").hidden = active.length === 0;
    find("no-takes").hidden = past.length > 0;
    find("takes-count").textContent = active.length ? `${active.length}` : "";
    if (focus) document.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
  }

  #tick() {
    for (const row of find("queue").children) {
      const job = this.takes.jobs.get(row.dataset.id);
      if (job) row.querySelector(".doing").textContent = doing(job);
    }
  }

  #waiting(job) {
    const row = make(
      "li",
      { className: "job", "data-id": job.id },
      make(
        "p",
        { className: "what" },
        make("span", { className: `kind ${job.task}` }, NAMES[job.task]),
        make("b", {}, job.title),
      ),
      make("progress", {
        max: 1,
        value: job.state === "running" ? job.progress : 0,
        "aria-label": `Progress of ${job.title}`,
      }),
      make("p", { className: "doing" }, doing(job)),
    );
    const cancel = button({
      icon: "close",
      words: `Cancel ${job.title}`,
      "data-focus": `cancel ${job.id}`,
    });
    cancel.addEventListener("click", () => this.acts.cancel(job));
    row.append(cancel);
    return row;
  }

  #rows(job) {
    if (job.state !== "succeeded") return [this.#ended(job)];
    return job.pieces.map((take, index) => this.#take(job, take, index));
  }

  #take(job, take, index) {
    const { a, b, layers } = this.acts.current();
    const role = take === a ? "A" : take === b ? "B" : layers.includes(take) ? "+" : "";
    const many = job.pieces.length > 1 ? ` ${index + 1}/${job.pieces.length}` : "";
    const open = make(
      "button",
      {
        ...{ type: "button", className: "open", onclick: () => this.acts.open(take) },
        "aria-current": role ? "true" : null,
        "data-focus": take.id,
      },
      picture(take),
      make(
        "span",
        { className: "what" },
        make("span", { className: `kind ${take.task}` }, NAMES[take.task] + many),
        make("b", {}, take.title),
      ),
      make(
        "span",
        { className: "when" },
        [take.bpm && `${take.bpm} bpm`, take.key, `${neat(take.duration, 1)} s`, ago(job.created)]
          .filter(Boolean)
          .join(" · "),
      ),
    );
    const row = make("li", { className: `past${role ? " on" : ""}`, "data-take": take.id }, open);
    if (role) row.append(make("span", { className: "role", title: "On the stage" }, role));
    row.append(this.#takeActs(job, take));
    return row;
  }

  #takeActs(job, take) {
    const compare = make("button", {
      ...{
        type: "button",
        className: "quiet ab-this",
        textContent: "B",
        title: "Compare with this",
      },
      "aria-label": `Compare with ${take.title}`,
      onclick: () => this.acts.compare(take),
    });
    const remove = button({ icon: "bin", words: `Delete ${take.title}` });
    remove.addEventListener("click", () => this.acts.remove(job));
    return make("span", { className: "acts" }, compare, remove);
  }

  #ended(job) {
    const acts = make("span", { className: "acts" });
    if (job.state !== "gone") {
      const retry = button({ icon: "again", words: `Try ${job.title} again` });
      retry.addEventListener("click", () => this.acts.retry(job));
      acts.append(retry);
    }
    const remove = button({ icon: "bin", words: `Remove ${job.title} from the list` });
    remove.addEventListener("click", () => this.acts.remove(job));
    acts.append(remove);
    const why = job.error ? make("span", { className: "why" }, job.error) : null;
    return make(
      "li",
      { className: `past ${job.state}` },
      make(
        "p",
        { className: "what" },
        make("span", { className: `kind ${job.task}` }, NAMES[job.task]),
        make("b", {}, job.title),
      ),
      make("p", { className: "when" }, `${STATES[job.state]} · ${ago(job.created)}`, why),
      acts,
    );
  }
}

/** What a job does now, and for how long still. */
export function doing(job) {
  const left = secondsLeft(job);
  const soon = left === null ? null : `${Math.ceil(left)} s left`;
  if (job.state === "queued") {
    return [job.position > 1 ? `waiting, number ${job.position}` : "waiting", soon]
      .filter(Boolean)
      .join(" · ");
  }
  const stage = job.stage.replace(/\s*\(.*?\)|\.+$/g, "");
  const percent = `${Math.round(job.progress * 100)} %`;
  return [stage, percent, soon].filter(Boolean).join(" · ");
}

/** Keep the rows that only changed their numbers: focus and animation stay where they are. */
function keyed(list, jobs, build) {
  const old = new Map([...list.children].map((row) => [row.dataset.id, row]));
  list.replaceChildren(
    ...jobs.map((job) => {
      const row = old.get(job.id);
      if (!row) return build(job);
      row.querySelector("progress").value = job.state === "running" ? job.progress : 0;
      row.querySelector(".doing").textContent = doing(job);
      return row;
    }),
  );
}

function picture(take) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 64 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "thumb");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", take.thumb ? thumbnailPath(take.thumb) : "M0 10H64");
  svg.append(path);
  return svg;
}

function ago(moment) {
  const minutes = Math.floor((Date.now() - moment) / 60000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h`;
  return `${Math.floor(minutes / 1440)} d`;
}
