const list = document.getElementById("tracks"), items = [...list.children];
const buttons = [...document.querySelectorAll(".show button")], said = document.querySelector(".none");
const verdicts = ["failed", "skipped", "success"];
document.querySelector(".bar").hidden = false;

function shows(track, key) {
  return key === "all" || track.status === key || (key === "duplicate" && track.duplicate);
}
function show(key) {
  let count = 0;
  for (const item of items) {
    item.hidden = !shows(item.firstElementChild.dataset, key);
    count += item.hidden ? 0 : 1;
  }
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.show === key));
  said.hidden = count > 0;
  said.textContent = count ? "" : "No track is like that.";
}
function rank(track, key) {
  if (key === "status") return verdicts.indexOf(track.status);
  // What was not measured comes last.
  return track[key] === undefined ? Infinity : Number(track[key]);
}
function sort(key) {
  const order = (item) => Number(item.firstElementChild.dataset.order);
  items.sort((a, b) => {
    const x = rank(a.firstElementChild.dataset, key), y = rank(b.firstElementChild.dataset, key);
    return x === y ? order(a) - order(b) : x < y ? -1 : 1;
  });
  list.append(...items);
}
for (const button of buttons) button.addEventListener("click", () => show(button.dataset.show));
document.getElementById("sort").addEventListener("change", (event) => sort(event.target.value));
// A link to a duplicate must find it, whatever is filtered away.
addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#t"]');
  if (link && document.querySelector(link.getAttribute("href")).parentElement.hidden) show("all");
});
for (const audio of document.querySelectorAll("audio")) {
  const article = audio.closest("article"), wave = article.querySelector(".wave");
  article.classList.add("playable");
  const place = () => article.style.setProperty("--at", audio.currentTime / (audio.duration || 1));
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    article.classList.add("playing", "started");
  });
  audio.addEventListener("pause", () => article.classList.remove("playing"));
  audio.addEventListener("timeupdate", place);
  audio.addEventListener("seeked", place);
  wave?.addEventListener("click", (event) => {
    const box = wave.getBoundingClientRect(), at = (event.clientX - box.left) / box.width;
    const seek = () => { audio.currentTime = at * audio.duration; };
    if (audio.readyState > 0) seek();
    else { audio.addEventListener("loadedmetadata", seek, { once: true }); audio.load(); }
    audio.play();
  });
}
