// Recordings as a bundle's sound: mono, at its rate, a window at a time, as WAV.

const MOST_WINDOWS = 20;
const POINTS = 64;  // of a waveform
const CANCELLED = 1e-3;  // of the channels' power: 30 dB
const LOUD = 0.5;  // of the loudest channel's power

// [{file, name, preview}] of a recording: its windows, or the file itself where this browser cannot read it.
export async function soundFiles(file, about) {
  let samples;
  try {
    samples = await decoded(await file.arrayBuffer(), about.sample_rate_hz);
  } catch {
    return [{file, name: file.name, preview: ""}];
  }
  const size = about.window_samples;
  const count = Math.min(MOST_WINDOWS, Math.max(1, Math.floor(samples.length / size)));
  return Array.from({length: count}, (_, i) => {
    const window = new Float32Array(size);
    window.set(samples.subarray(i * size, (i + 1) * size));
    const name = count > 1 ? `${file.name}, window ${i + 1}` : file.name;
    return {file: wav(window, about.sample_rate_hz), name, preview: waveOf(window)};
  });
}

async function decoded(data, rate) {
  const context = new OfflineAudioContext(1, 1, rate);
  return mono(await context.decodeAudioData(data));
}

// The mean of the channels; where it has lost the sound (a microphone wired the wrong way round gives
// -x beside x), the first of the loud ones. As decode_sound.py does it on a device.
export function mono(buffer) {
  const channels = Array.from({length: buffer.numberOfChannels}, (_, i) => buffer.getChannelData(i));
  const mixed = new Float32Array(buffer.length);
  for (const one of channels) {
    for (let i = 0; i < mixed.length; i++) mixed[i] += one[i] / channels.length;
  }
  const powers = channels.map(power);
  const all = powers.reduce((sum, one) => sum + one, 0) / channels.length;
  if (power(mixed) >= CANCELLED * all) return mixed;
  const loud = LOUD * Math.max(...powers);
  return channels[powers.findIndex((one) => one >= loud)];
}

function power(samples) {
  return samples.reduce((sum, one) => sum + one * one, 0) / Math.max(1, samples.length);
}

// Calls heard(file, samples) for each window of the microphone; returns what ends it.
export async function listenTo(about, heard, ended) {
  const stream = await navigator.mediaDevices.getUserMedia({audio: {channelCount: 1}});
  const context = new AudioContext();
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    await context.audioWorklet.addModule("live/recorder.js");
  } catch (error) {
    stop();  // or it would go on listening for nobody
    throw error;
  }
  const recorder = new AudioWorkletNode(context, "recorder", {numberOfOutputs: 0});
  const size = Math.ceil(about.window_samples * context.sampleRate / about.sample_rate_hz);
  let held = new Float32Array(0);
  recorder.port.onmessage = async ({data}) => {
    const more = new Float32Array(held.length + data.length);
    more.set(held);
    more.set(data, held.length);
    held = more;
    if (held.length < size) return;
    // before anything is waited for: more is heard meanwhile
    const part = held.slice(0, size);
    held = held.slice(size);
    const window = await resampled(part, context.sampleRate, about);
    heard(wav(window, about.sample_rate_hz), window);
  };
  stream.getAudioTracks()[0].addEventListener("ended", ended);
  context.createMediaStreamSource(stream).connect(recorder);
  return stop;
}

async function resampled(samples, rate, about) {
  const context = new OfflineAudioContext(1, about.window_samples, about.sample_rate_hz);
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

// 16 bits, mono.
export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, x))), true));
  return new Blob([view.buffer], {type: "audio/wav"});
}

// The loudest of each part of a window, a byte each.
export function waveOf(samples) {
  const step = Math.ceil(samples.length / POINTS);
  let text = "";
  for (let i = 0; i < samples.length; i += step) {
    const loudest = samples.subarray(i, i + step).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    text += String.fromCharCode(Math.min(255, Math.round(255 * loudest)));
  }
  return `wave:${btoa(text)}`;
}
