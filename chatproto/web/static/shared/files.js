// Files: which kind of message one becomes, and sending it to the server with progress (fetch has none).

import { ChatError } from './connection.js';

export const TEXT = 0;
export const IMAGE = 1;
export const VOICE = 2;
export const PRODUCT = 3;
export const ORDER = 4;
export const VIDEO = 5;
export const FILE = 6;

const KINDS = { image: IMAGE, voice: VOICE, audio: VOICE, video: VIDEO, file: FILE };

/**
 * POST /files. The answer decides the kind: the server looks at the content.
 *
 * @param {Blob} file
 * @param {object} with
 * @param {string} with.token of the connection
 * @param {string} with.name of the file, if it has none of its own
 * @param {(fraction: number) => void} with.progress
 * @returns {{done: Promise<object>, cancel: () => void}} done: the answer; a ChatError with the HTTP status, negative, or
 *   code 0 where it was cut or cancelled
 */
export function upload(file, { token, name = file.name ?? '', progress = () => {} }) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status >= 200 && request.status < 300 && answer.url) resolve(answer);
      else reject(new ChatError(-request.status, answer));
    };
    request.onerror = request.onabort = () => reject(new ChatError(0));
    request.open('POST', '/files');
    request.setRequestHeader('Authorization', `Bearer ${token}`);
    // Letters other than ASCII have no place in header fields; a lone surrogate in none at all.
    request.setRequestHeader('X-File-Name', encodeURIComponent(name.toWellFormed?.() ?? name));
    request.setRequestHeader('Content-Type', file.type || 'application/octet-stream');
    request.send(file);
  });
  return { done, cancel: () => request.abort() };
}

/** The message for an uploaded file: [file_type, msg]. */
export function messageOf(answer, { voice = false, duration_ms, name = '' } = {}) {
  const url = new URL(answer.url, location.href).href;
  const kind = KINDS[answer.kind] ?? FILE;
  const whole = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value));
  if (kind === IMAGE) {
    const thumb = answer.thumb && new URL(answer.thumb, location.href).href;
    return [IMAGE, whole({ url, width: answer.width, height: answer.height, thumb })];
  }
  if (voice) return [VOICE, { url, duration_ms: Math.round(duration_ms ?? 0) }];
  if (kind === VIDEO) return [VIDEO, whole({ url, duration_ms: duration_ms && Math.round(duration_ms) })];
  return [FILE, { url, name: answer.name || name || 'file', size: answer.size ?? 0 }];
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === 'object' ? value : {};
  } catch {
    return {};
  }
}
