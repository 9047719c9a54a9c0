// Puts the parts together, and starts them.

import { capabilities, learn, modelNamed } from "./capabilities.js";
import { Composer } from "./composer.js";
import { showCurl, showHelp, startDialogs } from "./dialogs.js";
import { Dock } from "./dock.js";
import { find, say } from "./dom.js";
import { Download } from "./download.js";
import { takeFiles } from "./drop.js";
import { Engine } from "./engine.js";
import { showRefusal } from "./fields.js";
import { Head } from "./head.js";
import { askForKey, currentKey } from "./key.js";
import { startKeys } from "./keyboard.js";
import { Lanes } from "./lanes.js";
import { thumbnail } from "./peaks.js";
import { Queue } from "./queue.js";
import { Reference } from "./reference.js";
import { Requests } from "./requests.js";
import { Selection } from "./selection.js";
import { Shelf } from "./shelf.js";
import { soundOf } from "./sound.js";
import { Stage, isStem } from "./stage.js";
import { startStarters } from "./starters.js";
import { Takes } from "./takes.js";
import { startTapping } from "./tap.js";
import { startTheme } from "./theme.js";
import { Transport } from "./transport.js";
import { showView, startViews } from "./views.js";
import { Working } from "./working.js";

const takes = new Takes();
const engine = new Engine();
const stage = new Stage(takes, engine);
const queue = new Queue(takes);
const selection = new Selection();
const composer = new Composer();
const reference = new Reference(() => stage.current);
const requests = new Requests({ takes, queue, stage, engine, composer, reference });
const dock = new Dock(selection);
const lanes = new Lanes(stage, { removed: takeOff });
const transport = new Transport(engine, stage, selection);
const download = new Download(stage);
const shelf = new Shelf(takes, {
  open,
  compare: (take) => stage.a && take !== stage.a && stage.show(stage.a, { against: take }),
  cancel: (job) => attempt(() => queue.cancel(job.id)),
  retry: (job) => attempt(() => queue.retry(job.id)),
  remove,
  current: () => ({
    a: stage.a,
    b: stage.b,
    layers: stage.lanes.map((lane) => lane.take).slice(1),
  }),
});

/** Do something that may fail, and say why it did. */
async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    say(error.message);
    return null;
  }
}

function open(take) {
  showView("listen");
  return attempt(() => stage.show(take));
}

async function openFile(file) {
  await attempt(async () => {
    const sampleRate = modelNamed(find("model").value).sample_rate;
    const buffer = await soundOf({
      id: `opened:${file.name}:${file.lastModified}`,
      file,
      sampleRate,
    });
    showView("listen");
    await stage.show(takes.addFile(file, buffer, Number(find("bpm").value) || null));
  });
}

async function remove(job) {
  const isOn = job.pieces.some((piece) => [stage.a, stage.b].includes(piece));
  if ((await attempt(() => queue.remove(job.id).then(() => true))) && isOn) stage.clear();
}

function takeOff(take) {
  takes.note(take, { isOff: true });
  stage.reload();
}

async function generate() {
  const wasSent = await requests.send(requests.song(), find("song"), find("song-problem"));
  if (wasSent) showView("listen");
}

async function edit(asked) {
  const request = await requests.edit(asked);
  await requests.send(request, find("edit"), find("edit-problem"));
}

/** New takes come onto the stage where they belong to what is there, or where nothing plays. */
async function made(pieces) {
  const [take] = pieces;
  const parent = takes.get(take.parent);
  const belongs = stage.a && parent && takes.lineage(stage.a).includes(parent);
  if (belongs || !engine.isPlaying) await stage.show(take);
  say(
    isStem(take) && take.task === "extract"
      ? "The stem is here, muted: solo it to hear it alone."
      : `Ready: ${take.title}`,
  );
  for (const piece of pieces) await sketch(piece);
}

/** Keep a small picture of a take for the list. */
async function sketch(take) {
  if (!take.thumb && !take.file) takes.note(take, { thumb: thumbnail(await soundOf(take)) });
}

function changeTake(step) {
  const all = takes.all();
  const at = all.indexOf(stage.a);
  const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
  if (next && next !== stage.a) open(next);
}

function repaint() {
  if (!stage.a) return;
  showView("listen");
  dock.choose("repaint", { focus: true });
}

function zoomBy(step) {
  find("zoom").value = Number(find("zoom").value) + step;
  lanes.zoom();
}

function look() {
  const other = document.querySelector("[name=look]:not(:checked)");
  other.checked = true;
  lanes.look();
}

find("song").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
for (const form of [find("song"), find("edit")]) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
find("song-curl").addEventListener("click", () => showCurl(requests.song()));
find("open-key").addEventListener("click", () => askForKey().then((isNew) => isNew && begin()));
composer.on("change", () => stage.a && dock.show(stage.a, find("model").value));
dock.on("edit", edit);
dock.on("curl", async (asked) => showCurl(await requests.edit(asked)));
takes.on("made", (pieces) => attempt(() => made(pieces)));
takes.on("failed", (job) => {
  const isSong = job.task === "text2music" || find("session").hidden;
  showRefusal(
    find(isSong ? "song" : "edit"),
    find(isSong ? "song-problem" : "edit-problem"),
    job.error,
  );
});
stage.on("problem", say);
stage.on("loading", (isLoading) => find("stage").classList.toggle("loading", isLoading));
stage.on("change", ({ isNew }) => {
  reference.offer(Boolean(stage.a));
  selection.fit(engine.duration, stage.grid);
  if (isNew) {
    selection.set(null);
    find("zoom").value = 0;
    lanes.zoom();
  }
  lanes.draw();
  if (stage.a) dock.show(stage.a, find("model").value);
  shelf.draw();
  for (const { take } of stage.lanes) attempt(() => sketch(take));
});
stage.on("grid", () => {
  selection.fit(engine.duration, stage.grid);
  lanes.ruler();
});
stage.on("deck", (deck) => lanes.deck(deck));

new Head(stage, {
  reuse: (take) => {
    composer.reuse(take);
    showView("write");
    find("prompt").focus();
  },
  curl: (take) => showCurl(requests.of(take)),
});
new Working(takes, (job) => attempt(() => queue.cancel(job.id)));
startDialogs();
startViews();
startTheme(() => lanes.repaint());
takeFiles(openFile);
startStarters((idea) => composer.take(idea), attempt);
startTapping(find("tap"), (bpm) => composer.take({ bpm }));
startKeys({
  toggle: () => transport.toggle(),
  toStart: () => transport.toStart(),
  back: (byBar) => transport.step(-1, byBar),
  on: (byBar) => transport.step(1, byBar),
  loop: () => transport.toggleLoop(),
  deckA: () => stage.setDeck("A"),
  deckB: () => stage.setDeck("B"),
  swap: () => stage.setDeck(engine.deck === "A" ? "B" : "A"),
  regionStart: () => selection.setSide("start", engine.position),
  regionEnd: () => selection.setSide("end", engine.position),
  clear: () => selection.set(null),
  repaint,
  generate: () => find("song").requestSubmit(),
  prompt: () => {
    showView("write");
    find("prompt").focus();
  },
  newer: () => changeTake(-1),
  older: () => changeTake(1),
  download: () => download.open(),
  look,
  closer: () => zoomBy(0.5),
  farther: () => zoomBy(-0.5),
  help: showHelp,
});

/** Learn what the server can do, and go on where the last visit ended. */
async function begin() {
  await attempt(async () => {
    const { server, models } = await learn();
    find("served").textContent = `${models.map(({ name }) => name).join(", ")} · ${server}`;
    find("open-key").hidden = !currentKey();
    composer.fill();
    await takes.sync();
    queue.followAll();
    const [latest] = takes.all();
    if (latest && !stage.a) await stage.show(latest);
    document.body.dataset.ready = capabilities() ? "yes" : "no";
  });
}

takes.load();
shelf.draw();
transport.fit();
begin();
