// Files on their way to the server; what arrives is sent as a message.

import { signal } from '../vendor/ui.js';
import { FILE, messageOf, upload } from './files.js';
import { newCmid } from './outbox.js';

const WHY = { '-413': 'tooLarge', '-429': 'quota', '-507': 'noRoom' };

export class Uploads {
  list = signal([]); // {cmid, to, name, file_type, at, progress, cancel, again}, or with state 'failed' and why: a word
  #lines = new Map(); // to → the last two: the next one begins after the first of them, and is sent after the second

  /**
   * @param {() => Promise<string>} token of the connection
   * @param {(to: unknown, msg: object, file_type: number) => void} send
   */
  constructor(token, send) {
    Object.assign(this, { token, send });
  }

  /** Upload a file and send it, in the order of choosing. to: where; how: {voice, duration_ms, name} of a recording. */
  add(to, file, how = {}) {
    const cmid = newCmid();
    const life = new AbortController();
    const cancel = () => {
      this.#drop(cmid);
      life.abort();
    };
    const again = () => {
      cancel();
      this.add(to, file, how);
    };
    const entry = { cmid, to, name: how.name ?? file.name, file_type: FILE, at: Date.now(), cancel, again };
    this.list.value = [...this.list.value, entry];
    const [turn, before] = this.#lines.get(to) ?? [];
    this.#lines.set(to, [before, this.#take(entry, file, how, life.signal, turn, before)]);
  }

  async #take({ cmid, to, name }, file, how, signal, turn, before) {
    const progress = (fraction) => this.#change(cmid, { progress: fraction });
    await turn;
    for (;;) {
      const token = await this.token();
      if (signal.aborted) return;
      try {
        const answer = await upload(file, { token, name, signal, progress });
        await before;
        if (signal.aborted) return;
        this.#drop(cmid);
        const [file_type, msg] = messageOf(answer, { ...how, name });
        this.send(to, msg, file_type);
        return;
      } catch (error) {
        if (error.code === undefined) throw error;
        const { retry_after_ms, error: word } = error.data;
        if (!retry_after_ms || word === 'quota') { // which is of a day
          this.#change(cmid, { state: 'failed', why: WHY[error.code] ?? 'uploadFailed' });
          return;
        }
        await new Promise((resolve) => {
          signal.onabort = resolve;
          setTimeout(resolve, retry_after_ms);
        });
      }
    }
  }

  #drop(cmid) {
    this.list.value = this.list.value.filter((one) => one.cmid !== cmid);
  }

  #change(cmid, fields) {
    this.list.value = this.list.value.map((one) => (one.cmid === cmid ? { ...one, ...fields } : one));
  }
}
