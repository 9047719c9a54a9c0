"use strict";
// Without this script everything still plays; it adds the playhead, one player at a time, and copying.
for (const group of document.querySelectorAll(".group")) {
  const keep = group.querySelector(".keep input");
  let last = null;
  for (const clip of group.querySelectorAll(".clip")) {
    const audio = clip.querySelector("audio"), view = clip.querySelector(".view");
    const show = () => view.style.setProperty("--at", audio.duration ? audio.currentTime / audio.duration : 0);
    const follow = () => { show(); if (!audio.paused) requestAnimationFrame(follow); };
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      if (keep?.checked && last && last !== audio && last.currentTime < audio.duration - 0.1 && !last.ended)
        audio.currentTime = last.currentTime;
      last = audio;
      clip.classList.add("started", "playing");
      follow();
    });
    for (const name of ["pause", "ended"]) audio.addEventListener(name, () => clip.classList.remove("playing"));
    audio.addEventListener("timeupdate", show);
    audio.addEventListener("seeked", () => { clip.classList.add("started"); show(); });
    view.addEventListener("click", event => {
      const box = view.getBoundingClientRect();
      last = audio;
      if (audio.duration) audio.currentTime = (event.clientX - box.left) / box.width * audio.duration;
      audio.play();
    });
  }
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {  // a page opened as a file may not reach the clipboard: select the text instead
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}
