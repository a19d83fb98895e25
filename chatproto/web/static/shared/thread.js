// The messages of one conversation, kept by seq: replies and pushes may overlap and come in any order.

import { signal } from '../vendor/ui.js';

const FIRST = 40;
const PAGE = 100;

export class Thread {
  #bySeq = new Map();
  #fetching = null;

  /** @param {(parameters: object) => Promise<{recs: object, has_more: boolean}>} fetch 22100 or 32100 */
  constructor(fetch) {
    this.fetch = fetch;
    this.messages = signal([]); // by seq, without those that only say that another one was recalled
    this.older = signal(true); // there are older ones
    this.loading = signal(false); // older ones are on their way
    this.whole = null; // all from the oldest kept one up to here are here
    this.newest = 0;
    this.recalled = new Set(); // the seqs of messages that were taken back, here or not
  }

  /** recs, {seq: message_info}, with which a conversation starts: the newest ones, without a gap. */
  start(recs, last_seq) {
    const list = Object.values(recs);
    if (this.whole === null) {
      this.whole = last_seq - list.length;
      this.older.value = this.whole > 0;
    }
    this.newest = Math.max(this.newest, last_seq);
    this.merge(list);
  }

  /** Keep messages; what is here already is no news. */
  merge(list) {
    const fresh = list.filter(({ seq }) => !this.#bySeq.has(seq));
    if (fresh.length) {
      this.whole ??= Math.min(...fresh.map(({ seq }) => seq)) - 1;
      this.#take(fresh);
    }
    this.seen(0);
  }

  /** The server has messages up to last_seq: fetch those that are missing. */
  seen(last_seq) {
    this.newest = Math.max(this.newest, last_seq);
    if (this.whole !== null && this.newest > this.whole) this.catchUp();
  }

  /** What came after the last message without a gap. */
  catchUp() {
    this.#fetching ??= this.#fetchAfter().finally(() => (this.#fetching = null));
  }

  async #fetchAfter() {
    try {
      for (;;) {
        const from = this.whole ?? 0;
        const { recs, has_more } = await this.fetch({ after_seq: from, page_size: PAGE });
        this.#take(Object.values(recs));
        if (!has_more || this.whole === from) break;
      }
    } catch (error) {
      if (error.code === undefined) throw error; // else the next push or log-in asks again
    }
  }

  /** The page before the oldest message. */
  async loadOlder() {
    if (this.loading.value || !this.older.value) return;
    this.loading.value = true;
    try {
      const first = this.#bySeq.size ? Math.min(...this.#bySeq.keys()) : undefined;
      const page = await this.fetch(first ? { before_seq: first, page_size: PAGE } : { page_size: FIRST });
      if (first === undefined) this.start(page.recs, Math.max(0, ...Object.keys(page.recs).map(Number)));
      else this.#take(Object.values(page.recs));
      this.older.value = page.has_more;
    } catch (error) {
      if (error.code === undefined) throw error;
      // Without a connection the next log-in asks again; what may not be read has no older ones.
      if (error.code !== 0 && error.passing) setTimeout(() => this.loadOlder(), error.data.retry_after_ms ?? 2000);
      this.older.value = error.passing && this.older.value;
    } finally {
      this.loading.value = false;
    }
  }

  #take(list) {
    for (const message of list) {
      if (!this.#bySeq.has(message.seq)) this.#bySeq.set(message.seq, message);
      if (message.recalls) this.recalled.add(message.recalls);
      this.newest = Math.max(this.newest, message.seq);
    }
    this.whole ??= 0;
    while (this.#bySeq.has(this.whole + 1)) this.whole += 1;
    this.messages.value = [...this.#bySeq.values()]
      .filter(({ recalls }) => !recalls)
      .map((message) => (this.recalled.has(message.seq) && !message.recalled ? this.#emptied(message) : message))
      .sort((a, b) => a.seq - b.seq);
  }

  #emptied(message) {
    const empty = { ...message, msg: '', file_type: 0, recalled: true };
    this.#bySeq.set(message.seq, empty);
    return empty;
  }
}
