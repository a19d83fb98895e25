// Who is signed in: the token, from the form, from the address, or kept from before.

import { safeStorage } from './storage.js';

const KEY = 'chatproto.console.token';
const storage = safeStorage();

/**
 * The token with which the page was opened (`#token=…`, gone from the address at once), or the kept one, or null.
 * Anybody may write such a link: what it brings is kept when the server has taken it, and until then changes nothing.
 */
export function tokenAtStart() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) history.replaceState(null, '', location.pathname);
  return given && claims(given) ? given : keptToken();
}

export function keptToken() {
  const token = storage.getItem(KEY);
  return token && claims(token) ? token : null;
}

export function keepToken(token) {
  if (token) storage.setItem(KEY, token);
  else storage.removeItem(KEY);
}

/** This one is over; another that is kept stays. */
export function forgetToken(token) {
  if (storage.getItem(KEY) === token) keepToken(null);
}

/** Who signs out in one tab signs out in all tabs of this browser. Returns how to stop. */
export function whenSignedOut(act) {
  const hear = ({ key, newValue }) => key === KEY && newValue === null && act();
  addEventListener('storage', hear);
  return () => removeEventListener('storage', hear);
}

/** What a token says; the server alone can tell whether it is true. */
export function claims(token) {
  try {
    const part = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(part), (char) => char.charCodeAt(0));
    const value = JSON.parse(new TextDecoder().decode(bytes));
    return Number(value.admin_id) ? value : null;
  } catch {
    return null;
  }
}

/** More than half of the token's life is over: the server renews it then. */
export function isOld(token, now = Date.now() / 1000) {
  const { iat, exp } = claims(token) ?? {};
  return Number(exp) - now < (iat ? Number(exp) - Number(iat) : 86_400) / 2;
}

/** {token} or {trouble, count}: a key of the words. */
export async function signIn(name, password) {
  let answer;
  try {
    answer = await fetch('/console/login', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ name, password }),
    });
  } catch {
    return { trouble: 'noServer' };
  }
  if (answer.ok) return answer.json();
  if (answer.status === 401 || answer.status === 400) return { trouble: 'wrongPassword' };
  if (answer.status === 429) return { trouble: 'tooManyTries', count: Math.ceil(Number(answer.headers.get('Retry-After') ?? 60) / 60) };
  return { trouble: 'noServer' };
}
