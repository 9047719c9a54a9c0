// Ways to take the music home: each take as the server made it, and what is heard as WAV.

import { reach } from "./api.js";
import { find, make, neat } from "./dom.js";
import { wavFile } from "./wav.js";

const BITS = [
  [16, "16 bit"],
  [24, "24 bit"],
  [32, "32 bit float"],
];

export class Download {
  constructor(stage) {
    this.stage = stage;
    find("open-download").addEventListener("click", () => this.open());
  }

  open() {
    const { stage } = this;
    if (!stage.a) return;
    const takes = [...new Set(stage.lanes.map((lane) => lane.take))];
    const rows = takes.map((take) => this.#row(take.title, this.#roles(take), this.#ways(take)));
    if (stage.lanes.filter((lane) => lane.deck !== "B").length > 1) {
      rows.unshift(this.#row("The mix", "everything that is heard, with its gains", this.#mix()));
    }
    find("download-choices").replaceChildren(...rows);
    find("download-dialog").showModal();
  }

  #roles(take) {
    const { a, b } = this.stage;
    const role = take === a ? (b ? "Take A" : "The take") : take === b ? "Take B" : "A layer";
    return `${role} · ${neat(take.duration)} s`;
  }

  #row(title, note, ways) {
    const words = make(
      "span",
      { className: "choice" },
      make("b", {}, title),
      make("span", { className: "hint" }, note),
    );
    return make("li", {}, words, make("span", { className: "ways" }, ...ways));
  }

  #ways(take) {
    const lane = this.stage.lanes.find((found) => found.take === take);
    const name = fileName(take);
    const made = take.link
      ? [
          way(take.format.toUpperCase(), `${name}.${take.format}`, async () =>
            (await reach(take.link)).blob(),
          ),
        ]
      : [];
    return [...made, ...wavs(name, async () => lane.buffer)];
  }

  #mix() {
    const { engine, a } = this.stage;
    return wavs(`${fileName(a)}-mix`, () => engine.mixdown(a.sampleRate));
  }
}

const wavs = (name, sound) =>
  BITS.map(([bits, words]) =>
    way(`WAV ${words}`, `${name}.wav`, async () => wavFile(await sound(), bits, name)),
  );

function way(words, name, content) {
  const made = make("button", { type: "button", className: "plain" }, words);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      save(await content(), name);
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

/** Hand a file to the browser's own downloads. */
function save(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

function fileName(take) {
  const words = take.title
    .toLowerCase()
    .replace(/\.[a-z0-9]+$/, "")
    .match(/[\p{L}\p{N}]+/gu) ?? ["take"];
  return [...words.slice(0, 6), take.seed ?? ""].filter((word) => word !== "").join("-");
}
