// The dialogs that only show something: help, and a request as curl.

import { curlNote, curlOf } from "./curl.js";
import { find, say } from "./dom.js";

export function startDialogs() {
  for (const closer of document.querySelectorAll("[data-close]")) {
    closer.addEventListener("click", () => closer.closest("dialog").close());
  }
  find("open-help").addEventListener("click", showHelp);
  find("curl-copy").addEventListener("click", copy);
}

export const showHelp = () => find("help-dialog").showModal();

/** Show a request as the command that makes it. */
export function showCurl({ values, files }) {
  find("curl-text").textContent = curlOf(values, files);
  const note = curlNote(files);
  find("curl-note").textContent = note;
  find("curl-note").hidden = !note;
  find("curl-dialog").showModal();
}

async function copy() {
  const place = find("curl-text");
  try {
    await navigator.clipboard.writeText(place.textContent);
    say("Copied.");
  } catch {
    // Without a secure origin there is no clipboard: choose the text, so that Ctrl-C does it.
    getSelection().selectAllChildren(place);
    say("Press Ctrl+C to copy it.");
  }
}
