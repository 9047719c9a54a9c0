// Recordings of this computer: dropped anywhere on the page, or chosen.

import { find } from "./dom.js";

/** `opened` is given the file. */
export function takeFiles(opened) {
  const place = find("drop");
  let depth = 0;
  const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (by) => {
    depth = Math.max(0, depth + by);
    place.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => isFile(event) && show(1));
  addEventListener("dragleave", (event) => isFile(event) && show(-1));
  addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    show(-depth);
    const [file] = event.dataTransfer.files;
    if (file) opened(file);
  });
  find("open-file").addEventListener("click", () => find("file-input").click());
  find("file-input").addEventListener("change", ({ target }) => {
    if (target.files.length) opened(target.files[0]);
    target.value = "";
  });
}
