// Two languages, and dates, sizes and money as people there write them.

import { signal } from '../vendor/ui.js';

export const LOCALES = ['zh-CN', 'en'];

/** Of the wanted languages the first that we speak; English where we speak none. */
export function pick(wanted) {
  for (const one of wanted) {
    const found = LOCALES.find((locale) => locale.slice(0, 2) === String(one).slice(0, 2).toLowerCase());
    if (found) return found;
  }
  return 'en';
}

/**
 * @param {Record<string, Record<string, string|object>>} catalogues locale → key → text with {names}, or {one, other}
 *   where it depends on `count`
 * @param {string[]} wanted languages, the best first
 */
export class I18n {
  #formats = new Map();

  constructor(catalogues, wanted = navigator.languages) {
    this.catalogues = catalogues;
    this.locale = signal(pick(wanted));
    this.t = this.t.bind(this);
    this.#apply();
  }

  choose(locale) {
    this.locale.value = pick([locale]);
    this.#apply();
  }

  #apply() {
    document.documentElement.lang = this.locale.peek();
  }

  /** The text of a key; with `count` in its plural form. */
  t(key, parameters = {}) {
    const locale = this.locale.value;
    let text = this.catalogues[locale][key] ?? this.catalogues.en[key];
    if (text === undefined) return key;
    if (typeof text === 'object') {
      const form = this.format('plural', () => new Intl.PluralRules(locale)).select(parameters.count);
      text = text[form] ?? text.other;
    }
    return text.replace(/\{(\w+)\}/g, (whole, name) => {
      const value = parameters[name];
      return typeof value === 'number' ? this.number(value) : (value ?? whole);
    });
  }

  /** What `make` gives, made once for each language. */
  format(name, make) {
    const key = `${this.locale.value} ${name}`;
    if (!this.#formats.has(key)) this.#formats.set(key, make());
    return this.#formats.get(key);
  }

  date(name, options, at) {
    return this.format(name, () => new Intl.DateTimeFormat(this.locale.value, options)).format(at);
  }

  number(value) {
    return this.format('number', () => new Intl.NumberFormat(this.locale.value)).format(value);
  }

  /** 14:05 */
  time(at) {
    return this.date('time', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }, at);
  }

  /** Today, Yesterday, Monday 3 March; with the year where it is another one. */
  day(at, now = Date.now()) {
    const days = Math.round((midnight(now) - midnight(at)) / 86_400_000);
    if (days === 0 || days === 1) {
      const words = this.format('relative', () => new Intl.RelativeTimeFormat(this.locale.value, { numeric: 'auto' }));
      const word = words.format(-days, 'day');
      return word[0].toUpperCase() + word.slice(1);
    }
    const options = { weekday: 'long', day: 'numeric', month: 'long' };
    if (new Date(at).getFullYear() === new Date(now).getFullYear()) return this.date('day', options, at);
    return this.date('year', { ...options, weekday: undefined, year: 'numeric' }, at);
  }

  /** Date and time, for who wants to know exactly. */
  full(at) {
    return this.date('full', { dateStyle: 'medium', timeStyle: 'short', hourCycle: 'h23' }, at);
  }

  /** An amount; a number or its digits. currency: ISO 4217, or anything, which then stands as it is. */
  money(amount, currency) {
    const value = Number(amount);
    if (amount === '' || amount === null || !Number.isFinite(value)) return '';
    try {
      return new Intl.NumberFormat(this.locale.value, { style: 'currency', currency }).format(value);
    } catch {
      return `${this.number(value)} ${typeof currency === 'string' ? currency : ''}`.trim();
    }
  }

  /** 3.4 MB */
  size(bytes) {
    const value = Number(bytes);
    if (!Number.isFinite(value) || value < 0) return '';
    const step = value < 1000 ? 0 : value < 1e6 ? 1 : value < 1e9 ? 2 : 3;
    const unit = ['byte', 'kilobyte', 'megabyte', 'gigabyte'][step];
    const options = { style: 'unit', unit, unitDisplay: step ? 'short' : 'long', maximumFractionDigits: step > 1 ? 1 : 0 };
    return this.format(`size ${step}`, () => new Intl.NumberFormat(this.locale.value, options)).format(value / 1000 ** step);
  }

  /** 1:07 */
  duration(ms) {
    const seconds = Math.max(0, Math.round(Number(ms) / 1000)) || 0;
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  }
}

export function midnight(at = Date.now()) {
  return new Date(at).setHours(0, 0, 0, 0);
}
