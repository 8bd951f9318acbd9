// Elements of the page, made of text alone.

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function put(into, text) {
  into.textContent = text;
}

export function clear(one) {
  one.replaceChildren();
}

export function answerItem(answer) {
  const item = element("li", "", answer.preview ? "answer seen" : "answer");
  if (answer.preview) item.append(previewOf(answer.preview));
  item.append(told(answer));
  return item;
}

function told(answer) {
  const box = element("div");
  const top = element("div", "", "row");
  const missing = Object.keys(answer.missing);
  const when = new Date(1000 * answer.at).toLocaleTimeString();
  top.append(element("strong", answer.label), element("span", `${when} · ${answer.total_ms.toFixed(1)} ms`, "small"));
  box.append(top);
  if (answer.of) box.append(element("div", answer.of, "small"));
  for (const [label, probability] of answer.top.slice(0, 3)) {
    const line = element("div", "", "row small");
    const meter = element("meter");
    meter.value = probability;
    meter.setAttribute("aria-label", `probability of ${label}`);
    line.append(element("span", `${label} ${(100 * probability).toFixed(1)} %`), meter);
    box.append(line);
  }
  if (missing.length) {
    const why = missing.map((name) => `${name}: ${answer.missing[name]}`).join("; ");
    box.append(element("div", `without ${why}`, "small alert"));
  }
  return box;
}

function previewOf(text) {
  // whoever sent it, it is a picture or a row of bytes, or nothing
  if (text.startsWith("data:image/")) {
    const image = element("img");
    image.src = text;
    image.alt = "the input";
    return image;
  }
  const canvas = element("canvas");
  canvas.setAttribute("aria-hidden", "true");
  canvas.width = canvas.height = 64;
  try {
    if (text.startsWith("wave:")) drawWave(canvas, atob(text.slice(5)));
  } catch {
    // no base64: an empty picture, and the rest of the page goes on
  }
  return canvas;
}

// One byte a point: 0 silent, 255 the loudest.
function drawWave(canvas, points) {
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#5b6ee1";
  const step = 64 / points.length;
  for (let i = 0; i < points.length; i++) {
    const height = Math.max(1, points.charCodeAt(i) / 4);
    pen.fillRect(i * step, 32 - height / 2, Math.max(1, step), height);
  }
}
