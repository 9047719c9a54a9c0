// The server's sentences, beside the field that each belongs to.

import { fieldNamed } from "./capabilities.js";
import { make } from "./dom.js";

// A new sentence begins where the next field's name does.
const NEXT = /(?<=[.!?]) (?=[a-z][a-z_]* is |[a-z][a-z_]*: |[A-Z])/;

/** Show what a refusal says: beside fields of `form` where it names one, else in `general`. */
export function showRefusal(form, general, text) {
  clearRefusal(form, general);
  const rest = [];
  let first = null;
  let last = null;
  for (const part of text.split(NEXT)) {
    const field = form.querySelector(`[data-field="${fieldNamed(part.match(/^[\w]+/)?.[0])}"]`);
    if (field) first ??= field;
    // What follows a field's sentence without naming another explains it.
    const place = field ?? (/^[A-Z]/.test(part) ? last : null);
    if (place) mark(place, part);
    else rest.push(part);
    last = place;
  }
  general.textContent = rest.join(" ");
  general.hidden = rest.length === 0;
  if (first) reveal(first);
}

/** Show a note of the server, which is no error. */
export function showNotes(form, notes) {
  for (const note of notes) {
    const field = form.querySelector(`[data-field="${fieldNamed(note.match(/^\w+/)?.[0])}"]`);
    if (field) field.append(make("p", { className: "note" }, note));
  }
}

export function clearRefusal(form, general) {
  general.hidden = true;
  general.textContent = "";
  for (const old of form.querySelectorAll(".field > .problem, .field > .note")) old.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

function mark(field, text) {
  const old = field.querySelector(":scope > .problem");
  if (old) {
    old.textContent += ` ${text}`;
    return;
  }
  const id = `problem-${field.dataset.field}`;
  field.append(make("p", { className: "problem", id, role: "alert" }, text));
  const input = field.querySelector("input:not([type=file]), select, textarea");
  input?.setAttribute("aria-invalid", "true");
  input?.setAttribute("aria-describedby", id);
}

function reveal(field) {
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.querySelector("input:not([type=file]), select, textarea")?.focus();
}
