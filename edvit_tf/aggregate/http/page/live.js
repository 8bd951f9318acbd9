// The page: what the aggregator tells of its fleet, drawn. No text becomes HTML anywhere.
import {ask, setUp} from "./ask.js";
import {Charts} from "./charts.js";
import {answerItem, clear, element, put} from "./elements.js";

const MOST_ANSWERS = 30;
const QUIET_MS = 3000;  // the aggregator tells something each second
const POLL_MS = 5000;
const HOT_C = 80;  // from here on a Pi lowers its clock
const byId = (id) => document.getElementById(id);

let about = null;
let heard = 0;
let polling = null;
const rows = [];
const charts = new Charts(byId);

function onEverything(all) {
  about = all.about;
  put(byId("bundle"), about.bundle);
  document.title = `${about.bundle} · fleet`;
  rows.push(...all.rows.filter((row) => !rows.some((each) => each.at === row.at)));
  rows.sort((a, b) => a.at - b.at);
  rows.splice(0, Math.max(0, rows.length - 300));
  onFleet(all.fleet);
  clear(byId("answers"));
  onAnswers({shown: all.answers, more: 0});
  charts.draw(rows, all.fleet.devices);
  setUp(about);
}

function onFleet(fleet) {
  const pill = byId("serving");
  put(pill, fleet.serving ? "serving" : "not serving");
  pill.className = `pill ${fleet.serving ? "good" : "bad"}`;

  byId("alerts-box").hidden = fleet.alerts.length === 0;
  clear(byId("alerts"));
  fleet.alerts.forEach((text) => byId("alerts").append(element("li", text)));

  clear(byId("devices"));
  fleet.devices.forEach((device) => byId("devices").append(deviceItem(device)));
  clear(byId("submodels"));
  for (const each of about.submodels) {
    byId("submodels").append(submodelItem(each, fleet));
  }
}

function deviceItem(device) {
  const good = device.state === "ready" && device.breaker === "closed";
  const item = element("li", "", good ? "good" : "bad");
  item.dataset.device = device.device;
  item.dataset.state = device.state;
  const top = element("div", "", "row");
  top.append(element("strong", device.device), element("span", device.state, `pill ${good ? "good" : "bad"}`));
  const last = device.last_ms === null ? "not asked yet" : `${device.last_ms.toFixed(1)} ms last`;
  const where = [device.address === device.device ? "" : device.address, device.reason];
  item.append(
    top,
    element("div", where.filter(Boolean).join(" · "), "small"),
    element("div", device.hosts.length ? `hosts ${device.hosts.join(", ")}` : "hosts nothing"),
    ...conditionOf(device),
    element("div", `${last} · ${bytes(device.in_flight_bytes)} in flight · breaker ${device.breaker}`, "small"),
  );
  return item;
}

// Nothing where the device tells nothing.
function conditionOf(device) {
  const said = [];
  const hot = device.temperature_c >= HOT_C;
  const held = (device.throttled ?? []).length > 0;
  if (typeof device.temperature_c === "number") {
    said.push(`${device.temperature_c.toFixed(0)} °C${hot ? ", hot" : ""}`);
  }
  if (held) said.push(device.throttled.join(", "));
  if (!said.length) return [];
  const line = element("div", said.join(" · "), hot || held ? "alert" : "small");
  line.dataset.condition = hot || held ? "bad" : "good";
  return [line];
}

function submodelItem(each, fleet) {
  const available = fleet.submodels[each.name];
  const item = element("li", "", available ? "good" : "bad");
  const top = element("div", "", "row");
  top.append(element("strong", each.name), element("span", available ? "available" : "missing", `pill ${available ? "good" : "bad"}`));
  const hosts = fleet.devices.filter((device) => device.hosts.includes(each.name));
  const on = hosts.map((device) => device.device).join(", ") || "no device";
  item.append(top, element("div", `on ${on}`), element("div", each.labels.join(", "), "small"));
  return item;
}

function onAnswers({shown, more}) {
  const list = byId("answers");
  shown.forEach((answer) => list.prepend(answerItem(answer)));
  if (more) list.prepend(element("li", `${more} more in this moment`, "small"));
  while (list.children.length > MOST_ANSWERS) list.lastChild.remove();
  byId("none").hidden = list.children.length > 0;
}

function onSecond(row) {
  rows.push(row);
  if (rows.length > 300) rows.shift();
  charts.draw(rows);
}

function bytes(count) {
  return count < 1024 ? `${count} B` : `${(count / 1024).toFixed(0)} KiB`;
}

const HANDLERS = {everything: onEverything, fleet: onFleet, answers: onAnswers, second: onSecond};

function hear(name, text) {
  heard = Date.now();
  HANDLERS[name](JSON.parse(text));
}

// A browser without EventSource, or an aggregator with too many pages: the present, again and again.
async function poll() {
  try {
    const answer = await fetch("live/state", {cache: "no-store"});
    if (answer.status === 401) location.assign("login");
    if (answer.ok) hear("everything", await answer.text());
  } catch {
    // the line below says it
  }
}

function pollNow(why) {
  if (polling === null) {
    polling = setInterval(poll, POLL_MS + 1000 * Math.random());
    poll();
  }
  byId("line").dataset.why = why;
}

function listen() {
  if (!("EventSource" in window)) return pollNow("this browser has no event streams");
  const source = new EventSource("live/events");
  for (const name of Object.keys(HANDLERS)) {
    source.addEventListener(name, (event) => {
      if (polling !== null) clearInterval(polling);
      polling = null;
      hear(name, event.data);
    });
  }
  source.onerror = () => {
    // refused: a browser does not try that again by itself
    if (source.readyState === EventSource.CLOSED) {
      pollNow("too many pages are open");
      setTimeout(listen, 10000 + 5000 * Math.random());
    }
  };
}

setInterval(() => {
  const quiet = Date.now() - heard;
  const late = quiet > (polling === null ? QUIET_MS : 3 * POLL_MS);
  const line = byId("line");
  let text = "live";
  if (late) text = heard ? `no word from the aggregator for ${Math.round(quiet / 1000)} s` : "connecting";
  else if (polling !== null) text = `every ${POLL_MS / 1000} s: ${line.dataset.why}`;
  if (line.textContent !== text) put(line, text);
  line.classList.toggle("alert", late && heard > 0);
}, 500);

listen();
ask(byId);
