// What was written and is not acknowledged yet. It is kept in a storage, so that a reload or a crash loses nothing,
// and is sent again with the same cmid until the server has answered: stored once, in the order of writing.

import { signal } from '../vendor/ui.js';

/** An id for a message; crypto.randomUUID is not there on plain http. */
export function newCmid() {
  return Date.now().toString(36) + crypto.getRandomValues(new Uint32Array(2)).join('-');
}

/**
 * entries.value: [{cmid, to, msg, file_type, at, state, code}] in the order of writing; state is 'waiting' or 'failed'.
 * Each entry has a key of its own in the storage, so that several tabs of one person do not overwrite each other's.
 */
export class Outbox {
  #sending = new Set();
  #timer = 0;

  /**
   * @param {string} prefix of the keys, different for each person
   * @param {(entry: object) => Promise<object>} send one entry: the reply's data, or a ChatError
   * @param {(entry: object, data: object) => void} sent
   * @param {Storage} storage
   * @param {Record<string, string>} kept what is in it
   */
  constructor(prefix, send, sent, storage, kept = storage) {
    Object.assign(this, { prefix, send, sent, storage });
    this.entries = signal(this.#read(kept));
  }

  /** Write something down and send it. to: what orders it, such as the guest; another one need not wait for it. */
  add(to, msg, file_type = 0) {
    // Later than the one before, also within a millisecond: after a reload they are sent in this order.
    const at = Math.max(Date.now(), (this.entries.value.at(-1)?.at ?? 0) + 1);
    const entry = { cmid: newCmid(), to, msg, file_type, at, state: 'waiting' };
    this.#keep(entry);
    this.entries.value = [...this.entries.value, entry];
    this.#pump(to);
  }

  /** After a log-in: send all that waits. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    new Set(this.entries.value.map(({ to }) => to)).forEach((to) => this.#pump(to));
  }

  /** Try a failed one again, as a new message at the end. */
  retry(cmid) {
    const entry = this.entries.value.find((one) => one.cmid === cmid);
    if (!entry) return;
    this.discard(cmid);
    this.add(entry.to, entry.msg, entry.file_type);
  }

  discard(cmid) {
    this.storage.removeItem(this.prefix + cmid);
    this.entries.value = this.entries.value.filter((one) => one.cmid !== cmid);
  }

  /** The person is gone: forget everything. */
  clear() {
    clearTimeout(this.#timer);
    this.entries.value.forEach(({ cmid }) => this.storage.removeItem(this.prefix + cmid));
    this.entries.value = [];
  }

  async #pump(to) {
    if (this.#sending.has(to)) return;
    this.#sending.add(to);
    try {
      let entry;
      while ((entry = this.entries.value.find((one) => one.to === to && one.state === 'waiting'))) {
        if (!(await this.#sendOne(entry))) return;
      }
    } finally {
      this.#sending.delete(to);
    }
  }

  /** False: not now. */
  async #sendOne(entry) {
    try {
      const data = await this.send(entry);
      this.sent(entry, data);
      this.discard(entry.cmid);
    } catch (error) {
      if (error.code === undefined) throw error;
      if (error.code === 0) return false; // the next log-in calls flush
      if (error.passing) {
        this.#timer ||= setTimeout(() => this.flush(), error.data.retry_after_ms ?? 1000);
        return false;
      }
      this.#change({ ...entry, state: 'failed', code: error.code });
    }
    return true;
  }

  #change(entry) {
    this.#keep(entry);
    this.entries.value = this.entries.value.map((one) => (one.cmid === entry.cmid ? entry : one));
  }

  #keep(entry) {
    try {
      this.storage.setItem(this.prefix + entry.cmid, JSON.stringify(entry));
    } catch {
      // Full: it is sent all the same, and only a reload would lose it.
    }
  }

  #read(kept) {
    const found = [];
    for (const [key, entry] of Object.entries(kept)) {
      if (!key.startsWith(this.prefix)) continue;
      try {
        found.push(JSON.parse(entry));
      } catch {
        this.storage.removeItem(key);
      }
    }
    return found.sort((a, b) => a.at - b.at);
  }
}
