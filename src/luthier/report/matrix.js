"use strict";
// Without this script every link and player works; it plays one clip at a time, and the one that is chosen in a map.
const players = [...document.querySelectorAll("audio")];
for (const audio of players) {
  audio.addEventListener("play", () => {
    for (const other of players) if (other !== audio) other.pause();
  });
}
for (const link of document.querySelectorAll(".heat a")) {
  link.addEventListener("click", () => {
    const cell = document.getElementById(link.getAttribute("href").slice(1));
    cell?.focus({ preventScroll: true });
    cell?.querySelector("audio")?.play();
  });
}
