"use strict";
// One player at a time; and a run that goes on shows itself anew, but never while somebody listens.
const players = [...document.querySelectorAll("audio")];
for (const audio of players) {
  const clip = audio.closest(".clip");
  audio.addEventListener("play", () => {
    for (const other of players) if (other !== audio) other.pause();
    clip.classList.add("playing");
  });
  for (const name of ["pause", "ended"]) audio.addEventListener(name, () => clip.classList.remove("playing"));
}
const seconds = Number(document.querySelector("main").dataset.reload);
if (seconds) setInterval(() => { if (players.every(audio => audio.paused)) location.reload(); }, seconds * 1000);
