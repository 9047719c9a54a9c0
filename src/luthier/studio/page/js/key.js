// The server's key, where it wants one: asked for once, kept in this tab, sent as a header only.

import { find } from "./dom.js";

const PLACE = "luthier.studio.key";
let asking = null;

export const currentKey = () => sessionStorage.getItem(PLACE);
export const keyHeader = () => (currentKey() ? { Authorization: `Bearer ${currentKey()}` } : {});

/** Ask for a key; several who ask at the same time share one dialog. False: not now. */
export function askForKey(problem) {
  asking ??= ask(problem).finally(() => {
    asking = null;
  });
  return asking;
}

function ask(problem) {
  const dialog = find("key-dialog");
  const input = find("api-key");
  const place = find("key-problem");
  // "Missing …" is what a first visit hears: the dialog itself says that.
  const isWrong = Boolean(problem) && Boolean(currentKey());
  place.hidden = !isWrong;
  place.textContent = isWrong ? `${problem}.` : "";
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const finish = (key) => {
      if (key) sessionStorage.setItem(PLACE, key);
      find("open-key").hidden = false;
      dialog.close();
      resolve(Boolean(key));
    };
    find("key-form").onsubmit = (event) => {
      event.preventDefault();
      const key = input.value.trim();
      if (key) finish(key);
      else input.focus();
    };
    find("key-cancel").onclick = () => finish(null);
    dialog.oncancel = () => finish(null);
  });
}
