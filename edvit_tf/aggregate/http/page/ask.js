// Asks the fleet about a file, a text, the camera or the microphone.
import {answerItem, clear, element} from "./elements.js";
import {soundFiles, listenTo, waveOf} from "./sound.js";

const MOST_SIDE = 640;  // of a camera's picture that is sent
const THUMBNAIL = 64;
const PAUSE_MS = 250;  // between two pictures of the camera, at least
const MOST_SHOWN = 8;
let about = null;
let byId = null;
let stopCamera = null;
let stopMicrophone = null;

export function setUp(found) {
  about = found;
  const sound = about.sample_rate_hz !== null;
  byId("camera").hidden = about.modality !== "image";
  byId("microphone").hidden = !sound;
  byId("text-form").hidden = !about.is_text;
  byId("drop-label").textContent = `Drop a ${about.item} here, or choose one`;
}

export function ask(find) {
  byId = find;
  const drop = byId("drop");
  const over = (event, is) => {
    event.preventDefault();
    drop.classList.toggle("over", is);
  };
  drop.addEventListener("dragover", (event) => over(event, true));
  drop.addEventListener("dragleave", (event) => over(event, false));
  drop.addEventListener("drop", (event) => {
    over(event, false);
    askFiles(event.dataTransfer.files);
  });
  byId("file").addEventListener("change", (event) => {
    askFiles(event.target.files).finally(() => { event.target.value = ""; });
  });
  byId("text-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("text").value;
    if (text) send(new Blob([text]), text, "");
  });
  byId("camera").addEventListener("click", () => toggle("camera"));
  byId("microphone").addEventListener("click", () => toggle("microphone"));
}

async function askFiles(files) {
  for (const file of [...files].slice(0, 20)) await askFile(file);
}

async function askFile(file) {
  if (about === null) return say("The aggregator has not answered yet. Try again.");
  if (about.sample_rate_hz !== null) {
    for (const each of await soundFiles(file, about)) await send(each.file, each.name, each.preview);
    return;
  }
  if (file.size > about.largest_bytes) {
    return say(`${file.name}: ${file.size} bytes; at most ${about.largest_bytes}. Take a smaller ${about.item}.`);
  }
  await send(file, file.name, about.modality === "image" ? await thumbnail(file) : "");
}

// Sends an encoded file; resolves when its answer is shown. Returns whether others may follow.
async function send(file, name, preview) {
  const parameters = preview && byId("show").checked ? {preview} : {};
  const tensor = {name: about.input, datatype: "BYTES", shape: [1], parameters: {binary_data_size: 4 + file.size}};
  const head = new TextEncoder().encode(JSON.stringify({parameters, inputs: [tensor]}));
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, file.size, true);
  try {
    const answer = await fetch("v2/models/edvit/infer", {
      method: "POST",
      headers: {"Inference-Header-Content-Length": `${head.length}`},
      body: new Blob([head, length, file]),
    });
    const text = await answer.text();
    const said = text.startsWith("{") ? JSON.parse(text) : {error: text};
    if (!answer.ok) return say(`${name}: ${said.error}`);
    show(said, name, preview);
    return true;
  } catch (error) {
    return say(`${name}: the aggregator did not answer (${error.message}).`);
  }
}

function show(said, name, preview) {
  const output = (wanted) => said.outputs.find((each) => each.name === wanted).data;
  const label = output("label")[0];
  const best = Math.max(...output("probabilities"));
  const missing = {};
  for (const lost of said.parameters.missing.split(",").filter(Boolean)) {
    missing[lost] = said.parameters[`${lost}.missing`];
  }
  const total_ms = said.parameters.total_ms;
  add(answerItem({label, top: [[label, best]], missing, total_ms, at: Date.now() / 1000, preview, of: name}));
}

function say(text) {
  add(element("p", text, "alert"));
  return false;
}

function add(item) {
  const box = byId("asked");
  box.prepend(item);
  while (box.children.length > MOST_SHOWN) box.lastChild.remove();
}

async function thumbnail(file) {
  try {
    const picture = await createImageBitmap(file);
    return drawn(picture, picture.width, picture.height, THUMBNAIL).toDataURL("image/jpeg", 0.7);
  } catch {
    return "";  // what this browser cannot show the fleet may be able to read
  }
}

function drawn(source, width, height, most) {
  const scale = Math.min(1, most / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

async function toggle(source) {
  const button = byId(source);
  const running = source === "camera" ? stopCamera : stopMicrophone;
  if (running) return running();
  clear(byId("asked"));
  if (!navigator.mediaDevices) return say(whyNone(source));
  button.disabled = true;  // until it is known whether it may be used: a second click starts no second one
  try {
    const stop = await (source === "camera" ? watchCamera() : hearMicrophone());
    button.setAttribute("aria-pressed", "true");
    const ended = () => {
      stop();
      button.setAttribute("aria-pressed", "false");
      if (source === "camera") stopCamera = null;
      else stopMicrophone = null;
    };
    if (source === "camera") stopCamera = ended;
    else stopMicrophone = ended;
  } catch (error) {
    say(`The ${source} cannot be used: ${error.message}. Is it there, and allowed for this page?`);
  } finally {
    button.disabled = false;
  }
}

// Browsers keep sources from pages that others on the way could have changed.
function whyNone(source) {
  if (window.isSecureContext) return `This browser gives no page a ${source}.`;
  return `A browser gives a ${source} to a page over https:// alone, or to one of its own machine: `
    + "start the aggregator with --https, or open this page on the aggregator's machine as http://localhost.";
}

// The latest picture, when the one before is answered: never a queue.
async function watchCamera() {
  const stream = await navigator.mediaDevices.getUserMedia({video: {width: {ideal: MOST_SIDE}}});
  const video = byId("video");
  let goesOn = true;
  const stop = () => {
    goesOn = false;
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    video.hidden = true;
  };
  video.srcObject = stream;
  video.hidden = false;
  try {
    await video.play();
  } catch (error) {
    stop();  // the lamp of a camera that nobody sees goes out
    throw error;
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => stopCamera?.());
  (async () => {
    while (goesOn) {
      const picture = drawn(video, video.videoWidth, video.videoHeight, MOST_SIDE);
      const small = drawn(picture, picture.width, picture.height, THUMBNAIL).toDataURL("image/jpeg", 0.7);
      const file = await new Promise((done) => picture.toBlob(done, "image/jpeg", 0.9));
      if (file) await send(file, "camera", small);
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  })();
  return stop;
}

async function hearMicrophone() {
  let busy = false;
  return listenTo(about, async (file, samples) => {
    if (busy) return;  // the latest window wins
    busy = true;
    await send(file, "microphone", waveOf(samples));
    busy = false;
  }, () => stopMicrophone?.());
}
