// Tap the beat: the median of the last distances.

const FORGET_MS = 2000;
const MOST = 8;

/** `found` is given beats per minute, from the second tap on. */
export function startTapping(button, found) {
  let taps = [];
  button.addEventListener("click", () => {
    const now = performance.now();
    if (now - (taps.at(-1) ?? 0) > FORGET_MS) taps = [];
    taps = [...taps, now].slice(-MOST);
    if (taps.length < 2) return;
    const gaps = taps
      .slice(1)
      .map((tap, i) => tap - taps[i])
      .sort((a, b) => a - b);
    found(Math.round(60000 / gaps[Math.floor(gaps.length / 2)]));
  });
}
