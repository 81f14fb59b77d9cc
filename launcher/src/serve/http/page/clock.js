// The clock of the relay, by which pictures are captured.

/** What two clocks may drift apart, a share of 1. */
const DRIFT = 0.001;

/**
 * What time it is at the relay. What it tells comes late by the time that this took, so of all
 * that it told the earliest counts, less what the clocks may have drifted apart since.
 */
class Clock {
  #ahead = -Infinity;
  #told = 0;

  /** It is `ms` there. */
  tell(ms) {
    const now = performance.now();
    this.#ahead = Math.max(ms - now, this.#ahead - (now - this.#told) * DRIFT);
    this.#told = now;
  }

  /** It may be another relay's from now on. */
  forget() {
    this.#ahead = -Infinity;
  }

  /** Milliseconds since the capture with that RTP timestamp, which is in 1/90 of them and wraps; null where nobody knows. */
  since(rtp) {
    if (rtp === null || this.#ahead === -Infinity) return null;
    const wrap = 2 ** 32;
    const ticks = (performance.now() + this.#ahead) * 90 - rtp;
    const wrapped = ((ticks % wrap) + wrap) % wrap;
    return wrapped < wrap / 2 ? wrapped / 90 : 0;
  }
}

export const relayClock = new Clock();
