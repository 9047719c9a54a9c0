// The server as functions. Whatever it refuses becomes a `Refusal` with its own sentence.

import { askForKey, currentKey, keyHeader } from "./key.js";

export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** A response that is not an error; asks for a key where the server wants one. */
export async function reach(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (;;) {
    const used = currentKey();
    const isForm = body instanceof FormData;
    const response = await send(path, {
      method,
      signal,
      headers: { ...keyHeader(), ...(body && !isForm ? JSON_BODY : {}), ...headers },
      body: body === undefined || isForm ? body : JSON.stringify(body),
    });
    if (response.ok) return response;
    const refusal = new Refusal(await sentence(response), response.status);
    if (response.status !== 401) throw refusal;
    // Somebody else may have entered another key while this was under way.
    if (used === currentKey() && !(await askForKey(refusal.message))) throw refusal;
  }
}

const JSON_BODY = { "Content-Type": "application/json" };

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer. Is it still running?", 0);
  }
}

async function sentence(response) {
  try {
    const said = await response.json();
    return String(said.detail ?? said.error);
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

/** The `data` of an answer. */
export async function ask(path, options) {
  return (await (await reach(path, options)).json()).data;
}

/** Queue a task: `values` by field, `files` by part (then a form is sent). */
export async function release(values, files = {}, identity = crypto.randomUUID()) {
  const headers = { "Idempotency-Key": identity };
  const body = Object.keys(files).length ? form(values, files) : values;
  const answer = await reach("/release_task", { method: "POST", body, headers });
  const { data, extra } = await answer.json();
  return { ...data, notes: extra?.notes ?? [] };
}

function form(values, files) {
  const made = new FormData();
  for (const [name, value] of Object.entries(values)) made.append(name, String(value));
  for (const [part, file] of Object.entries(files)) made.append(part, file, file.name);
  return made;
}

/** What a task says of itself, at each change, to its end. Server-sent events over fetch, because
 * an EventSource cannot send the key. */
export async function* changesOf(identity, signal) {
  const response = await reach(`/v1/tasks/${identity}/events`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const line = part.split("\n").find((found) => found.startsWith("data: "));
      if (line) yield JSON.parse(line.slice(6));
    }
  }
}
