// Sound → what a waveform shows: for each of many short stretches the peak and the mean power.

import { channelsOf } from "./sound.js";

const MOST = 16000;

/** {peak, rms}: Float32Arrays over the whole sound, 0 to 1. */
export function summary(buffer, bins = MOST) {
  const channels = channelsOf(buffer);
  const count = Math.min(bins, buffer.length);
  const peak = new Float32Array(count);
  const rms = new Float32Array(count);
  for (let bin = 0; bin < count; bin += 1) {
    const from = Math.floor((bin * buffer.length) / count);
    const to = Math.floor(((bin + 1) * buffer.length) / count);
    let most = 0;
    let power = 0;
    for (const samples of channels) {
      for (let i = from; i < to; i += 1) {
        const size = Math.abs(samples[i]);
        if (size > most) most = size;
        power += size * size;
      }
    }
    peak[bin] = most;
    rms[bin] = Math.sqrt(power / (2 * (to - from)));
  }
  return { peak, rms };
}

/** The shape of a sound in few letters (one a stretch, a to z), for a thumbnail that is kept. */
export function thumbnail(buffer, bins = 64) {
  const { peak } = summary(buffer, bins);
  const most = Math.max(...peak, 1e-9);
  return [...peak].map((p) => String.fromCharCode(97 + Math.round((p / most) * 25))).join("");
}

/** An SVG path of a thumbnail in a box of 64 × 20. */
export function thumbnailPath(letters) {
  const sizes = [...letters].map((letter) => Math.max(0.4, ((letter.charCodeAt(0) - 97) / 25) * 9));
  return sizes.map((size, i) => `M${i + 0.5} ${10 - size}V${10 + size}`).join("");
}
