// Files: which kind of message one becomes, and sending it to the server with progress (fetch has none).

import { ChatError } from './connection.js';

export const TEXT = 0;
export const IMAGE = 1;
export const VOICE = 2;
export const PRODUCT = 3;
export const ORDER = 4;
export const VIDEO = 5;
export const FILE = 6;

/**
 * POST /files. The answer decides the kind: the server looks at the content.
 *
 * @param {Blob} file
 * @param {object} with
 * @param {string} with.token of the connection
 * @param {string} with.name of the file
 * @param {AbortSignal} with.signal cancels it
 * @param {(fraction: number) => void} with.progress
 * @returns {Promise<object>} the answer; a ChatError with the HTTP status, negative, and what the server says, or code 0
 *   where it was cut or cancelled
 */
export function upload(file, { token, name, signal, progress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    signal.onabort = () => request.abort();
    request.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    request.responseType = 'json';
    request.onload = () => {
      if (request.response?.url) resolve(request.response);
      else reject(new ChatError(-request.status, request.response ?? {}));
    };
    request.onerror = request.onabort = () => reject(new ChatError(0));
    request.open('POST', '/files');
    request.setRequestHeader('Authorization', `Bearer ${token}`);
    // Letters other than ASCII have no place in header fields; a lone surrogate in none at all.
    request.setRequestHeader('X-File-Name', encodeURIComponent(name.toWellFormed?.() ?? name));
    request.setRequestHeader('Content-Type', file.type || 'application/octet-stream');
    request.send(file);
  });
}

/** The message for an uploaded file: [file_type, msg]. */
export function messageOf(answer, { voice, duration_ms, name }) {
  const whole = (path) => path && new URL(path, location.href).href;
  const url = whole(answer.url);
  if (answer.kind === 'image') {
    const { width, height, thumb } = answer;
    return [IMAGE, { url, width, height, thumb: whole(thumb) }];
  }
  if (voice) return [VOICE, { url, duration_ms: Math.round(duration_ms) }];
  if (answer.kind === 'video') return [VIDEO, { url }];
  return [FILE, { url, name: answer.name || name || 'file', size: answer.size }];
}
