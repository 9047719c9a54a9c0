// A lane's waveform, by wavesurfer.js: peaks in outline, mean power as the body.

import WaveSurfer from "../vendor/wavesurfer.esm.js";
import { colour } from "./theme.js";

const nonce = document.querySelector("script[nonce]").nonce;

/** Draw `found` ({peak, rms}) into `container`; `hue` names a colour of the theme. */
export function drawWaveform(container, found, duration, hue) {
  const drawn = WaveSurfer.create({
    container,
    height: "auto",
    peaks: [found.peak, found.rms],
    duration,
    interact: false,
    cursorWidth: 0,
    hideScrollbar: true,
    cspNonce: nonce,
    renderFunction: ([peak, rms], context) => {
      context.fillStyle = colour(hue);
      context.globalAlpha = 0.42;
      fillShape(columnsOf(peak, context.canvas.width, largest), context);
      context.globalAlpha = 1;
      fillShape(columnsOf(rms, context.canvas.width, average), context);
    },
  });
  return drawn;
}

/** Draw again, in the colours of the theme as they are now. */
export function redraw(drawn) {
  drawn.setOptions({});
}

/** As many values as there are columns, several folded into one. */
function columnsOf(sizes, width, fold) {
  const columns = Math.min(width, sizes.length);
  return Float32Array.from({ length: columns }, (_, x) => {
    const from = Math.floor((x * sizes.length) / columns);
    const to = Math.max(from + 1, Math.floor(((x + 1) * sizes.length) / columns));
    return fold(sizes.subarray(from, to));
  });
}

const largest = (sizes) => sizes.reduce((most, size) => Math.max(most, size), 0);
const average = (sizes) => sizes.reduce((sum, size) => sum + size, 0) / sizes.length;

function fillShape(sizes, context) {
  const { width, height } = context.canvas;
  const middle = height / 2;
  const room = middle - 2;
  const step = width / sizes.length;
  context.beginPath();
  context.moveTo(0, middle);
  sizes.forEach((size, x) => context.lineTo((x + 0.5) * step, middle - size * room - 0.5));
  context.lineTo(width, middle);
  for (let x = sizes.length - 1; x >= 0; x -= 1) {
    context.lineTo((x + 0.5) * step, middle + sizes[x] * room + 0.5);
  }
  context.fill();
}
