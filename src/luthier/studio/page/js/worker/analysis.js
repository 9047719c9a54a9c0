// Beside the page's thread: spectrograms, and where the beats are.

import { findBeats } from "./beats.js";
import { spectrogram } from "./spectrum.js";

const WORK = { beats: findBeats, spectrogram };

self.onmessage = ({ data: { id, work, values } }) => {
  const found = WORK[work](...values);
  self.postMessage({ id, found }, found.pixels ? [found.pixels.buffer] : []);
};
