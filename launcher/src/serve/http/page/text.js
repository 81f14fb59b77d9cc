// Numbers as a person reads them.

/** A length of time in milliseconds: "0.2 s", "14 s", "3 min", "2 h". */
export function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

/** Bits a second: "4.2 Mbit/s". */
export function bitrate(bits) {
  if (bits >= 9.95e6) return `${Math.round(bits / 1e6)} Mbit/s`;
  if (bits >= 1e6) return `${(bits / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bits / 1e3)} kbit/s`;
}

/** Frames a second: "29.8 fps". */
export function fps(rate) {
  return `${rate >= 9.95 ? Math.round(rate) : rate.toFixed(1)} fps`;
}

/** How large a stream's pictures are: "1280 × 720". */
export function size({ width, height }) {
  return `${width} × ${height}`;
}

/** A share of 1: "0.3 %". */
export function percent(share) {
  const value = share * 100;
  return `${value >= 9.95 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}

/** The time of day of a Date: "14:03:59". */
export function clock(date) {
  const two = number => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** A moment, as the relay writes it: "14:03:59", or with its day where that is another one. */
export function moment(text) {
  const date = new Date(text);
  if (date.toDateString() === new Date().toDateString()) return clock(date);
  return `${date.toLocaleDateString(undefined, { month: "short", day: "numeric" })}, ${clock(date)}`;
}

/** A name for a file with a picture of that camera, taken now. */
export function fileName(camera) {
  const now = new Date();
  const two = number => String(number).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `${camera} ${day} ${clock(now).replaceAll(":", ".")}.jpg`;
}
