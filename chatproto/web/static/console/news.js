// Title, sound and desktop notifications; each can be switched off.

import { effect, signal } from '../vendor/ui.js';
import { summary } from '../shared/kinds.js';
import { nameOf } from './parts.js';
import { safeStorage } from './storage.js';

const KEY = 'chatproto.console.notify';
const storage = safeStorage();

/** What is switched on: {title, sound, desktop}. */
export const wanted = signal({ title: true, sound: true, desktop: false, ...kept() });

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

  constructor(desk, i18n) {
    this.desk = desk;
    this.i18n = i18n;
    this.stop = effect(() => {
      const count = wanted.value.title ? desk.unread.value : 0;
      document.title = `${count ? `(${count}) ` : ''}${i18n.t('title')}`;
    });
  }

  /** Something came: a message, a guest, somebody in the queue. */
  tell(what, entry, message) {
    const looking = document.visibilityState === 'visible' && document.hasFocus();
    if (what === 'message' && looking && this.desk.selected.peek() === entry?.gid) return;
    if (wanted.peek().sound) this.#ring(what === 'message' ? 660 : 880);
    if (looking || !wanted.peek().desktop || !canNotify() || Notification.permission !== 'granted') return;
    const { t } = this.i18n;
    const title = what === 'message' ? nameOf(entry, this.i18n) : t(what === 'guest' ? 'newGuest' : 'newInQueue');
    const body = message ? summary(message, t).slice(0, 140) : nameOf(entry, this.i18n);
    // The same tag in every tab: one notification, however many are open.
    const shown = new Notification(title, { body, tag: `chatproto ${entry?.gid}` });
    shown.onclick = () => {
      focus();
      location.hash = `#/${entry.gid}`;
      shown.close();
    };
  }

  /** A short soft tone. Before the first click the browser allows none, and says so only in its log. */
  #ring(pitch) {
    if (!navigator.userActivation?.hasBeenActive) return;
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
