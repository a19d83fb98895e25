// The shop's storage, through the loader: a frame of another site has none of its own that lasts.

import { tell } from './host.js';

/** What Outbox needs of a Storage. */
export class HostStorage {
  #kept;

  /** @param {Record<string, string>} kept what the loader found */
  constructor(kept) {
    this.#kept = new Map(Object.entries(kept));
  }

  get length() {
    return this.#kept.size;
  }

  key(index) {
    return [...this.#kept.keys()][index] ?? null;
  }

  getItem(key) {
    return this.#kept.get(key) ?? null;
  }

  setItem(key, value) {
    this.#kept.set(key, value);
    tell('outbox', key, value);
  }

  removeItem(key) {
    if (this.#kept.delete(key)) tell('outbox', key);
  }
}
