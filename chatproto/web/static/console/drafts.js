// What was begun in each chat; kept over a reload, and the same in all tabs.

import { signal } from '../vendor/ui.js';
import { safeStorage } from './storage.js';

export class Drafts {
  #texts = new Map();
  #storage = safeStorage();
  #gid = null;

  /** @param {number} me whose they are */
  constructor(me) {
    this.prefix = `chatproto.draft.${me}.`;
    for (let index = 0; index < this.#storage.length; index += 1) {
      const key = this.#storage.key(index);
      if (key.startsWith(this.prefix)) this.#texts.set(Number(key.slice(this.prefix.length)), this.#storage.getItem(key));
    }
    this.now = signal(''); // of the open chat
    this.all = signal(new Map(this.#texts)); // as they were when that one was opened: a key press draws no list
    const hear = ({ key, newValue }) => {
      if (!key?.startsWith(this.prefix)) return;
      this.#set(Number(key.slice(this.prefix.length)), newValue);
      this.all.value = new Map(this.#texts);
    };
    addEventListener('storage', hear);
    this.stop = () => removeEventListener('storage', hear);
  }

  #set(gid, text) {
    if (text) this.#texts.set(gid, text);
    else this.#texts.delete(gid);
    if (gid === this.#gid) this.now.value = text ?? '';
  }

  open(gid) {
    this.#gid = gid;
    this.now.value = this.#texts.get(gid) ?? '';
    this.all.value = new Map(this.#texts);
  }

  write(gid, text) {
    this.#set(gid, text);
    try {
      if (text) this.#storage.setItem(this.prefix + gid, text);
      else this.#storage.removeItem(this.prefix + gid);
    } catch {
      // Full: the draft lives as long as the page.
    }
  }
}
