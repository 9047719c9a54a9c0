// Sound → tempo and the first beat: onsets from rising energy, then the comb that fits them best.

import { fft, hann } from "./fft.js";

const SIZE = 1024;
const HOPS_A_SECOND = 100;
const SLOWEST = 60;
const FASTEST = 180;
const USUAL = 105; // people hear beats near this tempo rather than its half or double
const SPREAD = 0.7; // of that preference, octaves
const NEARLY = 0.6; // what an onset counts that is a hundredth of a second off
const ALIKE = 0.99;
const EARLY_S = 0.08;
const NEAR = 0.03; // how far from the tempo that was asked for it is looked for

/** {bpm, first, strength}: `first` in seconds; `strength` is 1 where onsets do not care. */
export function findBeats(samples, rate, asked) {
  const onsets = onsetsOf(samples, rate);
  const tempos = asked ? around(asked) : wholeRange();
  const scores = tempos.map((bpm) => comb(onsets, bpm).strength * (asked ? 1 : preference(bpm)));
  const most = Math.max(...scores);
  const best = tempos[scores.indexOf(most)];
  // A short sound fits many tempos as well: their middle is the likeliest.
  const equal = tempos.filter(
    (bpm, i) => scores[i] > ALIKE * most && Math.abs(bpm / best - 1) < NEAR,
  );
  const bpm = equal.reduce((sum, one) => sum + one, 0) / (equal.length || 1) || best;
  const { first, strength } = comb(onsets, bpm);
  // A first beat that comes just before the second one's time is that of a piece that starts on it.
  const isLate = 60 / bpm - first < EARLY_S;
  return { bpm: Math.round(bpm * 10) / 10, first: isLate ? 0 : first, strength };
}

const preference = (bpm) => Math.exp(-0.5 * (Math.log2(bpm / USUAL) / SPREAD) ** 2);
const around = (bpm) => Array.from({ length: 61 }, (_, i) => bpm * (1 + NEAR * (i / 30 - 1)));
const wholeRange = () =>
  Array.from({ length: (FASTEST - SLOWEST) * 4 + 1 }, (_, i) => SLOWEST + i / 4);

/** How much each hundredth of a second is louder than the one before, over all frequencies. */
function onsetsOf(samples, rate) {
  const hop = rate / HOPS_A_SECOND;
  const window = hann(SIZE);
  const re = new Float32Array(SIZE);
  const im = new Float32Array(SIZE);
  let before = new Float32Array(SIZE / 2);
  const count = Math.max(0, Math.floor(samples.length / hop));
  const onsets = new Float32Array(count);
  for (let n = 0; n < count; n += 1) {
    const start = Math.round(n * hop) - SIZE / 2;
    for (let i = 0; i < SIZE; i += 1) re[i] = (samples[start + i] ?? 0) * window[i];
    im.fill(0);
    fft(re, im);
    const now = before.map((_, k) => Math.log1p(10 * Math.hypot(re[k], im[k])));
    if (n) onsets[n] = now.reduce((sum, size, k) => sum + Math.max(0, size - before[k]), 0);
    before = now;
  }
  return onsets;
}

/** The place of the first beat at a tempo, and how far its onsets stand out of the others. */
function comb(onsets, bpm) {
  const period = (60 / bpm) * HOPS_A_SECOND;
  const usual = onsets.reduce((sum, onset) => sum + onset, 0) / (onsets.length || 1) || 1;
  let best = { first: 0, strength: 0 };
  for (let shift = 0; shift < period; shift += 1) {
    let sum = 0;
    let count = 0;
    for (let at = shift; at < onsets.length; at += period, count += 1) {
      const i = Math.round(at);
      const beside = Math.max(onsets[i - 1] ?? 0, onsets[i + 1] ?? 0);
      sum += Math.max(onsets[i] ?? 0, NEARLY * beside);
    }
    const strength = sum / count / usual;
    if (strength > best.strength) best = { first: shift / HOPS_A_SECOND, strength };
  }
  return best;
}
