// The page: a wall of every camera, and one of them large.

import { Large } from "./large.js";
import { Tile } from "./tile.js";
import { Wall } from "./wall.js";

const $ = id => document.getElementById(id);
/** How often ages are shown anew, in milliseconds. */
const ROUND = 200;
/** Pictures a second of one tile, and of a large picture. */
const TILE_FPS = 10;
const LARGE_FPS = 30;
/** Pixels of a tile's picture for each of the page, at most: more are not missed. */
const SHARP = 1.5;

/** Tiles by the camera's name, in the order of the wall. */
const tiles = new Map();
const visible = new Set();

const watching = new IntersectionObserver(
  entries => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) visible.add(target);
      else visible.delete(target);
    }
    choose();
  },
  { rootMargin: "80px" },
);

const large = new Large({
  onStep: step,
  onClose: () => go(null),
  onPause: choose,
  onToast: toast,
});

const wall = new Wall({
  onStatus,
  onPicture,
  onLink(up) {
    $("link").hidden = up;
    $("link").textContent = up ? "" : "No connection to the relay: trying again";
    if (up) choose();
  },
});

function onStatus(cameras) {
  cameras.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const names = cameras.map(camera => camera.name);
  for (const [name, tile] of tiles) {
    if (names.includes(name)) continue;
    watching.unobserve(tile.element);
    visible.delete(tile.element);
    tile.play(false);
    tile.element.remove();
    tiles.delete(name);
  }
  cameras.forEach((camera, index) => {
    let tile = tiles.get(camera.name);
    if (!tile) {
      tile = new Tile(camera.name);
      tiles.set(camera.name, tile);
      watching.observe(tile.element);
    }
    const there = $("wall").children[index];
    if (there !== tile.element) $("wall").insertBefore(tile.element, there ?? null);
    tile.update(camera);
    if (large.name === camera.name) large.update(camera);
  });
  $("wall").dataset.count = Math.min(cameras.length, 3);
  $("empty").hidden = cameras.length > 0;
  $("keys").hidden = cameras.length === 0;
  $("before").hidden = $("after").hidden = cameras.length < 2;
  summarise(cameras);
  const { name } = large;
  if (name !== null && !tiles.has(name)) {
    large.close();
    toast(`${name} is not there any more`);
    go(null);
  }
  if (large.name === null) follow();
  choose();
}

/** Says how many are live; where that is read out, only when it changes. */
function summarise(cameras) {
  const live = cameras.filter(camera => camera.state.name === "live").length;
  const total = document.createElement("b");
  total.textContent = `${live} of ${cameras.length}`;
  total.classList.toggle("bad", live < cameras.length);
  const all = cameras.length > 0 ? [total, " live"] : [];
  const text = all.length > 0 ? `${total.textContent} live` : "";
  if ($("summary").textContent !== text) $("summary").replaceChildren(...all);
}

async function onPicture(name, picture) {
  const tile = tiles.get(name);
  if (!tile) return;
  if (large.name === name) await large.draw(picture);
  else await tile.draw(picture);
}

/** Asks the relay for the pictures that are to be seen. */
function choose() {
  const isWall = !document.hidden && large.name === null;
  for (const tile of tiles.values()) tile.play(isWall && visible.has(tile.element));
  large.play(!document.hidden || Boolean(document.pictureInPictureElement));
  if (document.hidden) return wall.show([]);
  if (large.name !== null) {
    return wall.show(large.wantsPictures ? [{ camera: large.name, fps: LARGE_FPS }] : []);
  }
  const seen = [...tiles].filter(([, tile]) => visible.has(tile.element) && tile.wantsPictures);
  const sharp = Math.min(window.devicePixelRatio, SHARP);
  wall.show(
    seen.map(([camera, tile]) => {
      return { camera, fps: TILE_FPS, width: Math.ceil(tile.element.clientWidth * sharp) };
    }),
  );
}

/** The camera that the address names; null for the wall. */
function asked() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null;
  } catch {
    return null;
  }
}

function go(name) {
  location.hash = name === null ? "" : encodeURIComponent(name);
}

/** Shows what the address asks for. */
function follow() {
  const name = asked();
  const tile = tiles.get(name);
  const before = tiles.get(large.name);
  // It ends before, and leaves its last picture to the large one.
  tile?.play(false);
  if (tile) large.open(tile.camera, tile.picture);
  else large.close();
  if (before && !tile) before.link.focus();
  choose();
}

/** The camera before or after the one that is large. */
function step(by) {
  const names = [...tiles.keys()].sort((a, b) => position(a) - position(b));
  const at = names.indexOf(large.name);
  if (names.length > 1) go(names[(at + by + names.length) % names.length]);
}

function position(name) {
  return [...$("wall").children].indexOf(tiles.get(name).element);
}

/** Moves the focus on the wall to the nearest tile in that direction. */
function move(key) {
  const links = [...$("wall").querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return links[0]?.focus();
  const across = key === "ArrowLeft" ? -1 : key === "ArrowRight" ? 1 : 0;
  if (across) return links[at + across]?.focus();
  const here = links[at].getBoundingClientRect();
  const down = key === "ArrowDown";
  const rows = links.filter(link => {
    const there = link.getBoundingClientRect();
    return down ? there.top >= here.bottom : there.bottom <= here.top;
  });
  const far = link => {
    const there = link.getBoundingClientRect();
    return Math.abs(there.top - here.top) * 100 + Math.abs(there.left - here.left);
  };
  rows.sort((a, b) => far(a) - far(b))[0]?.focus();
}

function toast(text) {
  const element = $("toast");
  // A dialog is above everything that is not in it.
  (large.name === null ? document.body : $("large")).append(element);
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { element.hidden = true; }, 2500);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  const isLarge = large.name !== null;
  const onButton = event.target.closest?.("button");
  if (key.startsWith("Arrow")) {
    if (!isLarge) move(key);
    else if (key === "ArrowLeft") step(-1);
    else if (key === "ArrowRight") step(1);
    else return;
  } else if (isLarge && key === "f") large.fullScreen();
  else if (isLarge && key === "s") large.snapshot();
  else if (isLarge && key === "i") large.togglePanel();
  else if (isLarge && key === " " && !onButton) large.pause();
  else return;
  event.preventDefault();
});

window.addEventListener("hashchange", follow);
document.addEventListener("visibilitychange", choose);
window.addEventListener("pagehide", () => {
  large.close();
  tiles.forEach(tile => tile.play(false));
});
setInterval(() => {
  if (large.name === null) tiles.forEach(tile => tile.refresh());
  large.refresh();
}, ROUND);

$("try").textContent = `gst-launch-1.0 videotestsrc is-live=true ! jpegenc ! camrelaysink host=${location.hostname} camera=test`;
$("copy-try").onclick = () => large.copy($("try"));
