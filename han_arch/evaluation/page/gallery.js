"use strict";
// Each crop shows two versions on top of each other and a slider, which moves the edge between them. Next to them are
// small pictures of all versions.
const versionLabels = unique(data.crops.flatMap((crop) => crop.versions.map((version) => version.label)));

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function cropFigure(crop) {
  const figure = element("div", "crop");
  const title = element("h3", "",
    `${crop.set}, ${crop.image}: ${crop.size} x ${crop.size} pixels, left ${crop.left}, top ${crop.top}`);
  const viewer = element("div", "viewer");
  const stage = element("div", "stage");
  const images = { left: new Image(), right: new Image() };
  const edge = element("div", "edge");
  const slider = element("input", "");
  Object.assign(slider, { type: "range", min: "0", max: "100", value: "50" });
  slider.setAttribute("aria-label", `edge between the left and the right image of ${crop.image}`);
  const move = () => {
    images.right.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    edge.style.left = `calc(${slider.value}% - 1px)`;
  };
  slider.addEventListener("input", move);
  stage.append(images.left, images.right, edge, slider);
  const sides = element("p", "sides");
  viewer.append(stage, sides);
  const thumbs = element("div", "thumbs");
  const text = (version) => (version.score ? `${version.label}: ${version.score}` : version.label);
  const show = () => {
    const chosen = ["left", "right"].map((side) => [side,
      crop.versions.find((version) => version.label === byId(side).value) || crop.versions[0]]);
    for (const [side, version] of chosen) Object.assign(images[side], { src: version.src, alt: text(version) });
    sides.replaceChildren(...chosen.map(([, version]) => element("span", "", text(version))));
    thumbs.querySelectorAll("button").forEach((button, i) =>
      button.classList.toggle("chosen", chosen.some(([, version]) => version === crop.versions[i])));
  };
  for (const version of crop.versions) {
    const button = element("button", "");
    button.type = "button";
    const image = new Image();
    Object.assign(image, { src: version.src, alt: "" });
    button.append(image, element("strong", "", version.label), document.createElement("br"), version.score);
    button.addEventListener("click", () => {
      byId("right").value = version.label;
      byId("right").dispatchEvent(new Event("change"));
    });
    thumbs.append(button);
  }
  figure.append(title, viewer, thumbs);
  move();
  show();
  for (const side of ["left", "right"]) byId(side).addEventListener("change", show);
  return figure;
}

if (data.crops.length === 0) {
  byId("gallery-section").hidden = true;
} else {
  fillSelect(byId("left"), versionLabels, versionLabels.includes("Bicubic") ? "Bicubic" : versionLabels[0]);
  fillSelect(byId("right"), versionLabels, [...versionLabels].reverse().find((label) => !label.endsWith(")")));
  byId("gallery").append(...data.crops.map(cropFigure));
}
