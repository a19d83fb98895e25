// The languages of the console: the choice is kept, and lists say briefly when something was.

import { I18n, midnight } from '../shared/i18n.js';
import { safeStorage } from './storage.js';
import { CATALOGUES } from './words.js';

const KEY = 'chatproto.console.locale';
const storage = safeStorage();

export class ConsoleI18n extends I18n {
  constructor() {
    const kept = storage.getItem(KEY);
    super(CATALOGUES, kept ? [kept] : undefined);
  }

  choose(locale) {
    super.choose(locale);
    storage.setItem(KEY, this.locale.value);
  }

  /** 14:05 today, else 3/3 */
  short(at, now = Date.now()) {
    if (midnight(at) === midnight(now)) return this.time(at);
    return this.date('short', { month: 'numeric', day: 'numeric' }, at);
  }

  /** 25 s, 3 min, 2 h: how long somebody waits. */
  wait(ms) {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    const [value, unit] = seconds < 60 ? [seconds, 'second'] : seconds < 3600 ? [Math.floor(seconds / 60), 'minute'] : [Math.floor(seconds / 3600), 'hour'];
    const options = { style: 'unit', unit, unitDisplay: 'narrow' };
    return this.format(`wait ${unit}`, () => new Intl.NumberFormat(this.locale.value, options)).format(value);
  }
}
