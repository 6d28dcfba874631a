"use strict";
// The video's time moves the cursors, the numbers and the box; the curves, the frames and the keys move the video.
const data = JSON.parse(document.getElementById("data").textContent);
const sections = [...document.querySelectorAll(".person")];
const stage = document.querySelector(".stage"), video = document.querySelector("video"), box = document.querySelector(".box");
const BRIDGE = 1; // seconds without a detection after which the box disappears
let person = 0, now = data.start;

// The row at time t between two rows of numbers that begin with their time; undefined where there is none.
function between(rows, t, longest) {
  let low = 0, high = rows.length - 1;
  while (low < high) { const middle = (low + high) >> 1; if (rows[middle][0] < t) low = middle + 1; else high = middle; }
  const after = rows[low], before = rows[low - 1] || after;
  if (!after || after[0] - before[0] > longest) return undefined;
  const share = after[0] > before[0] ? Math.min(1, Math.max(0, (t - before[0]) / (after[0] - before[0]))) : 0;
  return before.map((value, k) => value === null ? null : value + share * (after[k] - value));
}

function show(t) {
  now = Math.min(data.end, Math.max(data.start, t));
  const section = sections[person], followed = data.persons[person];
  if (!section) return;
  section.querySelector(".cursor").style.left = `${100 * (now - data.start) / (data.end - data.start)}%`;
  const slider = section.querySelector("input[type=range]"), piece = followed.pieces.find((one) => one[0][0] <= now && now <= one.at(-1)[0]);
  const row = piece && between(piece, now, Infinity);
  const cells = section.querySelectorAll(".values span:not(.head)");
  cells.forEach((cell, k) => {
    const last = k === cells.length - 2; // the uncertainty; the relevance of a single moment has no number
    cell.textContent = k === cells.length - 1 ? "" : !row ? "–" : last ? row[k + 1].toFixed(2) : `${Math.round(100 * row[k + 1])} %`;
  });
  const others = section.querySelector(".others");
  if (others) others.textContent = data.others.some(([first, last]) => first <= now && now <= last) ? "Another face is on screen here; this page has no answer for it." : "";
  slider.value = now;
  slider.setAttribute("aria-valuetext", `${now.toFixed(1)} seconds: ` + (row ? `${section.querySelector(".names .first").firstChild.data} ${cells[0].textContent}` : "no face"));
  if (box) {
    const near = followed.boxes.length && now > followed.boxes[0][0] - BRIDGE / 2 && now < followed.boxes.at(-1)[0] + BRIDGE / 2;
    const place = near && between(followed.boxes, now, BRIDGE);
    box.hidden = !place;
    if (place) box.classList.toggle("low", place[5] !== null && place[5] < data.certain);
    if (place) ["left", "top", "width", "height"].forEach((side, k) => { box.style[side] = `${100 * place[k + 1]}%`; });
  }
}

function go(t) {
  if (video && video.readyState) video.currentTime = t + data.shift;
  show(t);
}

function choose(number) {
  person = number;
  sections.forEach((section, k) => { section.hidden = k !== number; });
  show(now);
}

for (const section of sections) {
  section.querySelector("input[type=range]").addEventListener("input", (event) => go(Number(event.target.value)));
  for (const frame of section.querySelectorAll(".frames button")) frame.addEventListener("click", () => go(Number(frame.dataset.time)));
}
for (const choice of document.querySelectorAll("input[name=person]")) choice.addEventListener("change", () => choose(Number(choice.value)));

if (video) {
  const embedded = document.getElementById("video");
  if (embedded) {
    const bytes = Uint8Array.from(atob(embedded.textContent), (character) => character.charCodeAt(0));
    embedded.remove();
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  }
  const fail = () => { stage.classList.add("failed"); stage.querySelector(".unplayable").hidden = false; };
  video.addEventListener("error", fail);
  video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) fail(); }); // only the sound can be played
  const follow = () => show(video.currentTime - data.shift);
  const play = () => { follow(); if (!video.paused) requestAnimationFrame(play); };
  video.addEventListener("play", play);
  video.addEventListener("seeked", follow);
  addEventListener("keydown", (event) => {
    if (event.key !== " " || event.target.closest("button, video, summary, a, input[type=radio]")) return;
    event.preventDefault();
    if (video.paused) video.play(); else video.pause();
  });
}
choose(0);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = one.querySelectorAll("tr").length < 60; }));
