// Where the keyboard goes on when what had the focus is gone, such as a button that vanishes with what it did: to what
// lies nearest, and not to the start of the page, from where everything had to be passed again.

let last = null;

/** The nearest first. On a phone the field to write in would bring up the keyboard over what is to be read. */
const PLACES = [
  'dialog[open] button',
  '.recording .primary',
  matchMedia('(pointer: fine)').matches ? '.chat textarea:enabled' : null,
  '.chat .log',
  '.rows .chat-row[tabindex="0"]',
  '[role=tab][aria-selected=true]',
  '.login input',
].filter(Boolean);

const isLost = (one) => !one.isConnected || one.matches(':disabled');

function goOn() {
  const now = document.activeElement;
  // Browsers differ in when what is disabled loses the focus: at once, or with the next frame.
  if (!(now === document.body ? last && isLost(last) : isLost(now))) return;
  for (const place of PLACES) {
    document.querySelector(place)?.focus(); // what is not shown does not take it
    if (document.activeElement !== now) return;
  }
}

/** From now on. */
export function keepFocus() {
  document.addEventListener('focusin', ({ target }) => (last = target));
  new MutationObserver(goOn).observe(document.body, { childList: true, subtree: true, attributeFilter: ['disabled'] });
}
