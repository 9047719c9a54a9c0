// Asks the analysis worker, which starts when it is first needed.

import { channelsOf } from "./sound.js";

let worker = null;
let last = 0;
const waiting = new Map();

/** What `work` finds in a sound. */
export function analyse(work, buffer, ...more) {
  worker ??= start();
  const [left, right] = channelsOf(buffer);
  const mono = left.map((sample, i) => 0.5 * (sample + right[i]));
  last += 1;
  const id = last;
  worker.postMessage({ id, work, values: [mono, buffer.sampleRate, ...more] }, [mono.buffer]);
  return new Promise((resolve) => waiting.set(id, resolve));
}

function start() {
  const made = new Worker(new URL("worker/analysis.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data: { id, found } }) => {
    waiting.get(id)(found);
    waiting.delete(id);
  };
  return made;
}
