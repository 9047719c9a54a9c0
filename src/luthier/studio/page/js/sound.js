// Takes and files → decoded sound, kept as long as there is room.

import { reach } from "./api.js";

const MOST_KEPT = 12;
const kept = new Map();

/** The decoded sound of a take ({id, link, file, sampleRate}), decoded once. */
export function soundOf(take) {
  if (!kept.has(take.id)) {
    const decoding = decode(take);
    kept.set(take.id, decoding);
    decoding.catch(() => kept.delete(take.id));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(take.id);
}

async function decode({ link, file, sampleRate }) {
  const bytes = await (file ?? (await reach(link))).arrayBuffer();
  // An offline context needs no gesture, and decodes at the rate that the take has.
  const context = new OfflineAudioContext(2, 1, sampleRate);
  try {
    return await context.decodeAudioData(bytes);
  } catch {
    throw new Error("This browser cannot read that recording. Try WAV, FLAC or MP3.");
  }
}

/** Both channels of a sound; a mono sound's only one twice. */
export function channelsOf(buffer) {
  const left = buffer.getChannelData(0);
  return [left, buffer.numberOfChannels > 1 ? buffer.getChannelData(1) : left];
}

/** The same sound with silence behind it, so that lanes that loop together stay together. */
export function padded(buffer, seconds) {
  const samples = Math.round(seconds * buffer.sampleRate);
  if (samples <= buffer.length) return buffer;
  const longer = new AudioBuffer({
    length: samples,
    numberOfChannels: buffer.numberOfChannels,
    sampleRate: buffer.sampleRate,
  });
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    longer.copyToChannel(buffer.getChannelData(channel), channel);
  }
  return longer;
}
