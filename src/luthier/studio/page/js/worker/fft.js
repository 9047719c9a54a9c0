// The fast Fourier transform (radix 2, in place), and a Hann window.

export const hann = (size) =>
  Float32Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));

/** Transform `re` + i `im`, whose length is a power of two. */
export function fft(re, im) {
  const size = re.length;
  for (let i = 1, j = 0; i < size; i += 1) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let length = 2; length <= size; length <<= 1) butterflies(re, im, length);
}

function butterflies(re, im, length) {
  const half = length >> 1;
  const turn = (-2 * Math.PI) / length;
  for (let k = 0; k < half; k += 1) {
    const cos = Math.cos(turn * k);
    const sin = Math.sin(turn * k);
    for (let i = k; i < re.length; i += length) {
      const j = i + half;
      const real = re[j] * cos - im[j] * sin;
      const imaginary = re[j] * sin + im[j] * cos;
      re[j] = re[i] - real;
      im[j] = im[i] - imaginary;
      re[i] += real;
      im[i] += imaginary;
    }
  }
}
