// The WebSocket to the server: log-in, requests with their replies, a heartbeat that notices dead links, coming back.
// docs/integration.md (*Coming back*, *Closes*) says what a client has to do.

import { signal } from '../vendor/ui.js';

const BEAT = 25_000;
const DEADLINE = 8_000;
const LONGEST_DELAY = 30; // seconds
const LATER = new Set([-9997, -9995, -9993]);
const LOG_IN_AGAIN = -9999;
const PUSHES_LOST = new Set([29099, 39099]);
const CHANGED = 4000;
const REVOKED = 4001;

/** By how much the clock of this device is fast, ms, as heartbeats say: such clocks are wrong by hours at times. */
export const ahead = signal(0);

/** A reply with a code below 0; code 0 is no reply at all: the connection was lost, or not there. */
export class ChatError extends Error {
  constructor(code, data = {}, message = '') {
    super(message || `code ${code}`);
    this.code = code;
    this.data = data;
  }

  /** Whether it makes sense to ask the same again later. */
  get passing() {
    return this.code === 0 || LATER.has(this.code);
  }
}

/**
 * state.value is one of
 *   'connecting'  for the first time, or again
 *   'ready'       logged in
 *   'closed'      for good: closedBy is 'refused', 'revoked' or 'left'
 */
export class Connection {
  #socket = null;
  #owed = new Map();
  #again = [];
  #number = 0;
  #beat = 0;
  #watch = 0;
  #later = 0;
  #life = new AbortController();
  #loggingIn = false;
  #tries = 0;

  /**
   * @param {object} on
   * @param {{api_key: number, call_type: number}} on.command of the log-in
   * @param {() => Promise<object|null>} on.login its other parameters, asked for at each log-in; null: not now
   * @param {(data: object) => void} on.loggedIn
   * @param {(api_key: number, data: object) => void} on.push
   * @param {(code: number, data: object) => boolean|void} on.refused the log-in; true: try again
   * @param {(token: string) => void} on.token a new one in place of the one in use
   * @param {() => void} on.lost pushes may have been lost
   */
  constructor(on) {
    this.on = on;
    this.state = signal('connecting');
    this.closedBy = null;
    const wake = () => this.#wake();
    const life = { signal: this.#life.signal };
    addEventListener('online', wake, life);
    addEventListener('offline', wake, life);
    document.addEventListener('visibilitychange', wake, life);
    this.#open();
  }

  /** The data of the reply; a ChatError where it is an error, or none came. */
  request(api_key, parameters = {}) {
    if (this.state.value !== 'ready') return Promise.reject(new ChatError(0));
    return this.#ask({ api_key, ...parameters });
  }

  /** Send what needs no reply, such as that somebody is typing; nothing where there is no connection. */
  tell(api_key, parameters = {}) {
    this.request(api_key, parameters).catch(() => {});
  }

  /** Connect now, whatever was waited for. */
  reconnect() {
    if (this.state.value !== 'closed') this.#open();
  }

  /** Log in anew, on the same connection where there is one. */
  logIn() {
    if (this.#socket?.readyState === 1) this.#logIn(this.#socket);
    else this.#open();
  }

  /** Leave for good. api_key: of the log-out, where the server is to be told. */
  async close(api_key) {
    if (api_key && this.state.value === 'ready') await this.request(api_key).catch(() => {});
    this.#end('left');
  }

  #open() {
    this.#drop();
    this.state.value = 'connecting';
    const socket = new WebSocket(location.origin.replace('http', 'ws'));
    this.#socket = socket;
    this.#watchOver();
    socket.onopen = () => {
      this.#heard();
      this.#heartbeat(); // so that the time is known before anything else
      this.#logIn(socket);
    };
    socket.onmessage = (event) => socket === this.#socket && this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.#socket && this.#lost(event.code);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null; // a dead link closes much later, and is nobody's business then
    socket?.close();
    this.#forget();
  }

  #end(by) {
    this.#drop();
    this.#life.abort();
    this.closedBy = by;
    this.state.value = 'closed';
  }

  #lost(code) {
    this.#forget();
    if (code === REVOKED) {
      this.#end('revoked');
    } else if (code === CHANGED) {
      this.#open();
    } else {
      this.state.value = 'connecting';
      const seconds = Math.min(LONGEST_DELAY, 2 ** this.#tries++) * (0.5 + Math.random() / 2);
      this.#later = setTimeout(() => this.#open(), seconds * 1000);
    }
  }

  /** What belongs to a connection that is gone. */
  #forget() {
    clearInterval(this.#beat);
    clearTimeout(this.#later);
    this.#heard();
    this.#loggingIn = false;
    const waiting = [...this.#owed.values(), ...this.#again.splice(0)];
    this.#owed.clear();
    waiting.forEach(({ reject }) => reject(new ChatError(0)));
  }

  #wake() {
    if (this.state.value === 'ready') this.#heartbeat();
    else if (navigator.onLine && document.visibilityState === 'visible') this.reconnect();
  }

  #heartbeat() {
    this.#send({ call_type: 0 });
  }

  #send(frame) {
    this.#socket?.send(JSON.stringify(frame));
    if (!this.#watch) this.#watchOver();
  }

  /** A page cannot see WebSocket pings: a dead link shows only by an answer that does not come. */
  #watchOver() {
    this.#watch = setTimeout(() => this.#open(), DEADLINE);
  }

  #ask(frame) {
    return new Promise((resolve, reject) => {
      const request_id = ++this.#number;
      this.#owed.set(request_id, { frame, resolve, reject });
      this.#send({ ...frame, request_id });
    });
  }

  async #logIn(socket) {
    if (this.#loggingIn) return;
    this.#loggingIn = true;
    clearInterval(this.#beat);
    this.#beat = setInterval(() => this.#heartbeat(), BEAT);
    try {
      const parameters = await this.on.login();
      if (socket !== this.#socket || parameters === null) return;
      const data = await this.#ask({ ...this.on.command, ...parameters });
      this.#tries = 0;
      this.state.value = 'ready';
      this.#refresh(data);
      this.on.loggedIn(data);
      this.#again.splice(0).forEach(({ frame, resolve, reject }) => this.#ask(frame).then(resolve, reject));
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      if (socket === this.#socket && error.code) this.#refused(error);
    } finally {
      if (socket === this.#socket) this.#loggingIn = false;
    }
  }

  #refused({ code, data, passing }) {
    if (passing) {
      this.state.value = 'connecting';
      const wait = (data.retry_after_ms ?? 1000) + Math.random() * 1000;
      this.#later = setTimeout(() => (code === -9993 ? this.#open() : this.logIn()), wait);
    } else if (this.on.refused?.(code, data)) {
      this.#later = setTimeout(() => this.logIn(), 0);
    } else {
      this.#end('refused');
    }
  }

  #heard() {
    clearTimeout(this.#watch);
    this.#watch = 0;
  }

  #receive({ api_key, code, data, message, request_id }) {
    this.#heard();
    if (request_id !== undefined) this.#reply(request_id, code, data, message);
    else if (PUSHES_LOST.has(api_key)) this.on.lost?.();
    else if (api_key) this.on.push(api_key, data);
    else if (code > 0) ahead.value = Date.now() - data.server_time;
    if (this.#owed.size && !this.#watch) this.#watchOver();
  }

  #reply(request_id, code, data, message) {
    const waiting = this.#owed.get(request_id);
    if (!waiting) return;
    this.#owed.delete(request_id);
    if (code > 0) {
      this.#refresh(data);
      waiting.resolve(data);
    } else if (code === LOG_IN_AGAIN && waiting.frame.api_key !== this.on.command.api_key) {
      this.#again.push(waiting);
      this.#logIn(this.#socket);
    } else {
      waiting.reject(new ChatError(code, data, message));
    }
  }

  #refresh(data) {
    if (data.is_refresh === 1) this.on.token?.(data.refresh_token);
  }
}
