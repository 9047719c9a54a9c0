// Sound → the picture of a spectrogram: time to the right, pitch upwards on a logarithmic scale.

import { fft, hann } from "./fft.js";

const SIZE = 2048;
const LOWEST_HZ = 40;
const FLOOR_DB = -78;
const TOP_DB = -12;
// From nothing over teal and amber to white: lightness only ever rises.
const STOPS = [
  [11, 15, 20],
  [13, 52, 56],
  [24, 118, 110],
  [150, 170, 96],
  [246, 196, 105],
  [255, 247, 224],
];

/** {pixels (RGBA), width, height} of mono samples. */
export function spectrogram(samples, rate, width, height) {
  const pixels = new Uint8ClampedArray(width * height * 4);
  const window = hann(SIZE);
  const rows = rowsOf(height, rate);
  const re = new Float32Array(SIZE);
  const im = new Float32Array(SIZE);
  for (let x = 0; x < width; x += 1) {
    const start = Math.round(((x + 0.5) / width) * samples.length) - SIZE / 2;
    for (let i = 0; i < SIZE; i += 1) re[i] = (samples[start + i] ?? 0) * window[i];
    im.fill(0);
    fft(re, im);
    for (let y = 0; y < height; y += 1) paint(pixels, (y * width + x) * 4, power(re, im, rows[y]));
  }
  return { pixels, width, height };
}

/** The bins that each row looks at, from the top down. */
function rowsOf(height, rate) {
  const highest = Math.min(16000, rate / 2);
  const bin = (y) => {
    const hertz = LOWEST_HZ * (highest / LOWEST_HZ) ** (1 - y / height);
    return Math.min(SIZE / 2 - 1, (hertz * SIZE) / rate);
  };
  return Array.from({ length: height }, (_, y) => [bin(y + 1), bin(y)]);
}

/** The strongest of the bins between two, decibels; between bins that lie farther apart, what a
 * straight line from one to the other says. */
function power(re, im, [from, to]) {
  const size = (k) => Math.hypot(re[k], im[k]);
  const below = Math.floor(from);
  let most = size(below) + (from - below) * (size(below + 1) - size(below));
  for (let k = below + 1; k <= to; k += 1) most = Math.max(most, size(k));
  return 20 * Math.log10(most / (SIZE / 4) + 1e-6);
}

function paint(pixels, at, decibels) {
  const share = Math.max(0, Math.min(1, (decibels - FLOOR_DB) / (TOP_DB - FLOOR_DB)));
  const place = share * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  for (let c = 0; c < 3; c += 1) {
    pixels[at + c] = STOPS[below][c] + (place - below) * (STOPS[below + 1][c] - STOPS[below][c]);
  }
  pixels[at + 3] = 255;
}
