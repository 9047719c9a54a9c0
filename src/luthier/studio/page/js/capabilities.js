// What this server can do: its models, their tasks, values and speed. Nothing here is assumed.

import { ask } from "./api.js";

let known = null;

/** Ask the server; what it says is kept. */
export async function learn() {
  known = await ask("/v1/capabilities");
  return known;
}

export const capabilities = () => known;
export const modelNamed = (name) =>
  known.models.find((model) => model.name === (name || known.default_model)) ?? known.models[0];

/** Why a model cannot do a task, as a sentence; null when it can. */
export function whyNot(task, name) {
  const model = modelNamed(name);
  if (model.tasks.includes(task)) return null;
  const others = known.models.filter((other) => other.tasks.includes(task));
  const where = others.length ? ` ${others.map((other) => other.name).join(", ")} can.` : "";
  return `${model.name} was not trained for this.${where}`;
}

/** Field → its names, the aliases too: the server's sentences may use any. */
export function fieldNamed(name) {
  const found = known.fields.find((field) => field.name === name || field.aliases.includes(name));
  return found?.name ?? name;
}

/** How long a new piece takes here, seconds, or null while that is not known. */
export function expectedSeconds(model, seconds, steps) {
  const speed = modelNamed(model).measured?.by_kind?.text2music;
  return speed ? speed.fixed_seconds + speed.seconds_per_step_second * steps * seconds : null;
}
