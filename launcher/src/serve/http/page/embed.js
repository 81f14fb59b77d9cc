// One camera alone, for other sites to embed.

import { Direct } from "./direct.js";
import { duration } from "./text.js";
import { CONNECTING, LATE, Picture, isJpeg, reason, set, shownAge, shownState, stateName, video } from "./tile.js";
import { Wall } from "./wall.js";

const $ = id => document.getElementById(id);
const FPS = 15;
const ROUND = 200;

const name = decodeURIComponent(location.pathname.split("/").pop());
const picture = new Picture($("canvas"));
const direct = new Direct(name, $("video"), picture);
const nothing = { name, state: { name: "waiting" }, streams: [] };
let camera = nothing;

document.title = name;
$("canvas").setAttribute("aria-label", `Picture of ${name}`);
$("video").setAttribute("aria-label", `Video of ${name}`);

const wall = new Wall({
  onStatus(cameras) {
    camera = cameras.find(one => one.name === name) ?? nothing;
    choose();
  },
  onPicture: (_, shown) => direct.draw(shown),
  onLink(up) {
    if (up) choose();
  },
});

function choose() {
  const isDirect = video(camera) !== undefined && !isJpeg(camera);
  direct.play(isDirect && !document.hidden, camera.state.name);
  const width = Math.ceil(window.innerWidth * window.devicePixelRatio);
  const wanted = !document.hidden && (!isDirect || direct.wantsPictures);
  wall.show(wanted ? [{ camera: name, fps: FPS, width }] : []);
}

function refresh() {
  const state = shownState(camera, picture);
  const age = shownAge(camera, picture, direct);
  const late = age !== null && age > LATE;
  $("tile").dataset.state = state;
  $("tile").toggleAttribute("data-drawn", picture.placeholder);
  set($("badge"), stateName(state));
  $("badge").hidden = state === "live" && !late;
  const why = reason(camera, picture.shown || direct.playing, direct.why);
  set($("why"), why);
  $("why").toggleAttribute("data-waiting", why === CONNECTING);
  set($("age"), late ? duration(age) : "");
  $("age").toggleAttribute("data-late", late);
}

document.addEventListener("visibilitychange", choose);
setInterval(refresh, ROUND);
