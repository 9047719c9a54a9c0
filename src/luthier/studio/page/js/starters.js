// Words to start from: on the empty stage, and for whoever wants to be surprised.

import { ask } from "./api.js";
import { find, make } from "./dom.js";

const IDEAS = [
  { prompt: "Warm lo-fi with a dusty electric piano and brushed drums", bpm: 82, key: "A minor" },
  { prompt: "Solo felt piano, slow and close", bpm: 66, key: "Db major" },
  { prompt: "Funk with slap bass, clavinet and tight horns", bpm: 108, key: "E minor" },
];

/** `chosen` is given {prompt, bpm, key, …}. */
export function startStarters(chosen, attempt) {
  find("starters").replaceChildren(
    ...IDEAS.map((idea) =>
      make(
        "button",
        { type: "button", className: "starter", onclick: () => chosen(idea) },
        idea.prompt,
      ),
    ),
  );
  find("surprise").addEventListener("click", () =>
    attempt(async () => {
      const sample = await ask("/create_random_sample", {
        method: "POST",
        body: { sample_type: "custom" },
      });
      chosen(ideaOf(sample));
    }),
  );
}

const ideaOf = (sample) => ({
  prompt: sample.prompt ?? sample.caption,
  lyrics: sample.lyrics,
  bpm: sample.bpm,
  key: sample.key_scale ?? sample.keyscale,
  time_signature: sample.time_signature ?? sample.timesignature,
});
