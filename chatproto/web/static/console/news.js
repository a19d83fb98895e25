// Title, sound and desktop notifications; each can be switched off. Of all tabs of an agent in one browser one tells, and
// none what another one shows. They know of each other by locks of the browser's, which end with a tab however it
// ends; where there are none, as on pages without https, they agree on one by messages, and what they show they keep
// to themselves.

import { effect, signal } from '../vendor/ui.js';
import { summary } from '../shared/kinds.js';
import { nameOf } from './parts.js';
import { safeStorage } from './storage.js';

const KEY = 'chatproto.console.notify';
const ONCE = 10_000;
const MOMENT = 200; // within which all tabs hear of the same
const storage = safeStorage();

/** What is switched on: {title, sound, desktop}. */
export const wanted = signal({ title: true, sound: true, desktop: false, ...kept() });

// What is switched in one tab is switched in all.
addEventListener('storage', ({ key }) => {
  if (key === KEY) wanted.value = { ...wanted.peek(), ...kept() };
});

function kept() {
  try {
    return JSON.parse(storage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

export const canNotify = () => typeof Notification === 'function' && isSecureContext;

/** Switch something; for the desktop the browser may have to be asked. False: it does not allow it. */
export async function want(what, on) {
  if (what === 'desktop' && on) {
    const answer = canNotify() ? await Notification.requestPermission() : 'denied';
    if (answer !== 'granted') return false;
  }
  wanted.value = { ...wanted.peek(), [what]: on };
  storage.setItem(KEY, JSON.stringify(wanted.peek()));
  return true;
}

export class News {
  #sound = null;
  #shown = new Map(); // gid → {box: the notification, seq: of its message}
  #eyes; // the beginning of the names of locks that say which chat is looked at, and in which tab
  #tab = crypto.getRandomValues(new Uint32Array(2)).join('');
  #at = null;
  #lookAway = null;
  #peers = null; // the other tabs, where there are no locks
  #claims = new Map(); // what is to be done → the tab that does it

  constructor(desk, i18n) {
    this.desk = desk;
    this.i18n = i18n;
    this.#eyes = `chatproto.looks ${desk.me} `;
    if (!navigator.locks) {
      this.#peers = new BroadcastChannel(`chatproto.told ${desk.me}`);
      this.#peers.onmessage = ({ data: [what, tab] }) => this.#claim(what, tab);
    }
    const look = () => this.#look();
    addEventListener('focus', look);
    addEventListener('blur', look);
    document.addEventListener('visibilitychange', look);
    const away = () => this.#closeAll(); // nobody would answer a click
    addEventListener('pagehide', away);
    const effects = [
      effect(() => {
        const count = wanted.value.title ? desk.unread.value : 0;
        document.title = `${count ? `(${count}) ` : ''}${i18n.t('title')}`;
      }),
      effect(() => this.#look(desk.selected.value)),
      effect(() => this.#forget(desk.guests.value)),
    ];
    this.stop = () => {
      effects.forEach((end) => end());
      removeEventListener('focus', look);
      removeEventListener('blur', look);
      document.removeEventListener('visibilitychange', look);
      removeEventListener('pagehide', away);
      this.#lookAway?.();
      this.#peers?.close();
      this.#closeAll();
    };
  }

  /** Which chat is looked at in this tab: its gid, 0 for none, null where nobody looks at the tab. */
  #looking(selected = this.desk.selected.peek()) {
    return document.visibilityState === 'visible' && document.hasFocus() ? (selected ?? 0) : null;
  }

  /** Let the other tabs know. */
  #look(selected) {
    const at = this.#looking(selected);
    if (at === this.#at) return;
    this.#at = at;
    this.#lookAway?.();
    this.#lookAway = null;
    if (at === null) return;
    const over = new Promise((resolve) => (this.#lookAway = resolve));
    navigator.locks?.request(`${this.#eyes}${this.#tab} ${at}`, () => over);
  }

  /** The chats that are looked at in other tabs, 0 where it is none. */
  async #others() {
    const { held = [] } = (await navigator.locks?.query()) ?? {};
    const names = held.map(({ name }) => name).filter((name) => name.startsWith(this.#eyes));
    return names.map((name) => name.split(' ').slice(-2)).filter(([tab]) => tab !== this.#tab).map(([, gid]) => Number(gid));
  }

  /** Do what one tab is to do: the first that comes, as all hear of the same at about the same time. */
  async #once(what, act) {
    if (this.#peers) return this.#agreed(what, act);
    await navigator.locks.request(`chatproto.told ${this.desk.me} ${what}`, { ifAvailable: true }, (first) => {
      if (!first) return undefined;
      act();
      return new Promise((resolve) => setTimeout(resolve, ONCE));
    });
  }

  /** The same without locks: who hears of it while others do waits for their claims, of which the lowest counts. */
  async #agreed(what, act) {
    if (this.#claims.has(what)) return;
    this.#claim(what, this.#tab);
    this.#peers.postMessage([what, this.#tab]);
    await new Promise((resolve) => setTimeout(resolve, MOMENT));
    if (this.#claims.get(what) === this.#tab) act();
  }

  #claim(what, tab) {
    const first = this.#claims.get(what);
    if (!first) setTimeout(() => this.#claims.delete(what), ONCE);
    if (!first || tab < first) this.#claims.set(what, tab);
  }

  /** Something came: a message, a guest, somebody in the queue. */
  async tell(what, entry, message) {
    const here = this.#looking();
    const looking = here === null ? await this.#others() : [here, ...(await this.#others())];
    if (what === 'message' && looking.includes(entry.gid)) return;
    const event = `${what} ${entry.gid} ${message?.seq ?? entry.last_seq}`;
    // Before the first click the browser allows no sound, and says so only in its log.
    if (wanted.peek().sound && navigator.userActivation?.hasBeenActive) {
      void this.#once(`sound ${event}`, () => this.#ring(what === 'message' ? 660 : 880));
    }
    if (!looking.length && wanted.peek().desktop && canNotify() && Notification.permission === 'granted') {
      void this.#once(`desktop ${event}`, () => this.#show(what, entry, message));
    }
  }

  #show(what, entry, message) {
    const { gid } = entry;
    const { t } = this.i18n;
    const title = what === 'message' ? nameOf(entry, this.i18n) : t(what === 'guest' ? 'newGuest' : 'newInQueue');
    const body = message ? summary(message, t).slice(0, 140) : nameOf(entry, this.i18n);
    let box;
    try {
      // The same tag in every tab: the newest of a guest takes the place of the one before.
      box = new Notification(title, { body, tag: `chatproto ${gid}` });
    } catch {
      return; // phones take them from service workers only: the title and the sound remain
    }
    this.#shown.set(gid, { box, seq: message?.seq });
    box.onclose = () => this.#shown.get(gid)?.box === box && this.#shown.delete(gid);
    box.onclick = () => {
      focus();
      location.hash = `#/${gid}`;
      box.close();
    };
  }

  /** What was recalled, or read elsewhere, is shown no more. */
  #forget(guests) {
    for (const [gid, { box, seq }] of this.#shown) {
      const { unread, last_message } = guests.get(gid) ?? {};
      if (seq === undefined || (unread && !(last_message?.seq === seq && last_message.recalled))) continue;
      this.#shown.delete(gid);
      box.close();
    }
  }

  #closeAll() {
    for (const { box } of this.#shown.values()) box.close();
    this.#shown.clear();
  }

  /** A short soft tone. */
  #ring(pitch) {
    this.#sound ??= new AudioContext();
    const { currentTime, destination } = this.#sound;
    const tone = this.#sound.createOscillator();
    const volume = this.#sound.createGain();
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0.0001, currentTime);
    volume.gain.exponentialRampToValueAtTime(0.08, currentTime + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.0001, currentTime + 0.35);
    tone.connect(volume).connect(destination);
    tone.start();
    tone.stop(currentTime + 0.4);
  }
}
