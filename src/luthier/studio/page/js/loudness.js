// How loud a sound is, by ITU-R BS.1770: K-weighted, in blocks of 400 ms, gated twice. The browser's
// own filters do the weighting, away from the page's thread.

import { channelsOf } from "./sound.js";

const HOP_S = 0.1;
const HOPS_A_BLOCK = 4;
const ABSOLUTE_GATE = -70;
const RELATIVE_GATE = -10;

/** Integrated loudness, LUFS; -Infinity for silence. */
export async function loudness(buffer) {
  const weighted = await weight(buffer);
  const powers = blockPowers(channelsOf(weighted), weighted.sampleRate);
  const above = (gate) => powers.filter((power) => level(power) > gate);
  const gate = level(mean(above(ABSOLUTE_GATE))) + RELATIVE_GATE;
  return level(mean(above(Math.max(gate, ABSOLUTE_GATE))));
}

const level = (power) => -0.691 + 10 * Math.log10(power);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);

function weight(buffer) {
  const context = new OfflineAudioContext(2, buffer.length, buffer.sampleRate);
  const source = new AudioBufferSourceNode(context, { buffer });
  const shelf = new IIRFilterNode(context, shelfAt(buffer.sampleRate));
  const cut = new IIRFilterNode(context, cutAt(buffer.sampleRate));
  source.connect(shelf).connect(cut).connect(context.destination);
  source.start();
  return context.startRendering();
}

/** The head's shelf: +4 dB above 1.7 kHz. BS.1770 gives coefficients for 48 kHz; these are the
 * analogue filter that they stand for, at any rate. */
function shelfAt(rate) {
  const k = Math.tan((Math.PI * 1681.974451) / rate);
  const [q, high] = [0.7071752, 10 ** (3.99984385 / 20)];
  const band = high ** 0.49966677;
  const scale = 1 + k / q + k * k;
  return {
    feedforward: [
      high + (band * k) / q + k * k,
      2 * (k * k - high),
      high - (band * k) / q + k * k,
    ].map((value) => value / scale),
    feedback: [1, (2 * (k * k - 1)) / scale, (1 - k / q + k * k) / scale],
  };
}

/** The low cut, at 38 Hz. */
function cutAt(rate) {
  const k = Math.tan((Math.PI * 38.13547088) / rate);
  const q = 0.50032704;
  const scale = 1 + k / q + k * k;
  return {
    feedforward: [1, -2, 1],
    feedback: [1, (2 * (k * k - 1)) / scale, (1 - k / q + k * k) / scale],
  };
}

/** Mean squares of blocks that overlap by three quarters, the channels added. */
function blockPowers(channels, rate) {
  const hop = Math.round(HOP_S * rate);
  const hops = [];
  for (let from = 0; from + hop <= channels[0].length; from += hop) {
    let sum = 0;
    for (const samples of channels) {
      for (let i = from; i < from + hop; i += 1) sum += samples[i] * samples[i];
    }
    hops.push(sum / hop);
  }
  const count = Math.min(HOPS_A_BLOCK, hops.length);
  return hops.slice(count - 1).map((_, i) => mean(hops.slice(i, i + count)));
}
