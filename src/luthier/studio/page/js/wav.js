// Sound → a WAV file: 16 or 24 bit, or 32 bit float.

import { channelsOf } from "./sound.js";

const HEADER = 44;
const WRITERS = {
  16: (view, at, sample) => view.setInt16(at, Math.round(sample * 32767), true),
  24: (view, at, sample) => {
    const value = Math.round(sample * 8388607);
    view.setUint16(at, value & 0xffff, true);
    view.setInt8(at + 2, value >> 16);
  },
  32: (view, at, sample) => view.setFloat32(at, sample, true),
};

/** A file of `buffer`, in stereo; whole numbers are clipped at full scale, floats are not. */
export function wavFile(buffer, bits, name) {
  const [left, right] = channelsOf(buffer);
  const width = bits / 8;
  const size = left.length * 2 * width;
  const view = new DataView(new ArrayBuffer(HEADER + size));
  writeHeader(view, size, buffer.sampleRate, bits);
  const write = WRITERS[bits];
  const fit = bits === 32 ? (sample) => sample : (sample) => Math.max(-1, Math.min(1, sample));
  for (let i = 0, at = HEADER; i < left.length; i += 1, at += 2 * width) {
    write(view, at, fit(left[i]));
    write(view, at + width, fit(right[i]));
  }
  return new File([view], name, { type: "audio/wav" });
}

function writeHeader(view, size, rate, bits) {
  const text = (at, letters) =>
    [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  const frame = (2 * bits) / 8;
  text(0, "RIFF");
  view.setUint32(4, HEADER - 8 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, bits === 32 ? 3 : 1, true);
  view.setUint16(22, 2, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * frame, true);
  view.setUint16(32, frame, true);
  view.setUint16(34, bits, true);
  text(36, "data");
  view.setUint32(40, size, true);
}
