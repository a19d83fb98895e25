// The panel's page: it waits for the loader, then talks to the server for the guest.

import { html, render } from '../vendor/ui.js';
import { I18n } from '../shared/i18n.js';
import { option } from '../shared/page.js';
import { Conversation } from './conversation.js';
import { meet, tell } from './host.js';
import { Panel } from './panel.js';
import { composing, goOn } from '../shared/composer.js';

const COLOUR = /^#[\da-f]{3,6}$/i;

/** The shop's accent, and its light or dark where it has chosen one. */
function look({ accent, onAccent, theme }) {
  const { style, classList } = document.documentElement;
  if (COLOUR.test(accent)) {
    style.setProperty('--accent', accent);
    style.setProperty('--on-accent', onAccent);
    classList.add('own-accent');
  }
  if (!['light', 'dark'].includes(theme)) return;
  style.colorScheme = theme;
  const rules = ({ cssRules }) => [...cssRules].flatMap((rule) => (rule.styleSheet ? rules(rule.styleSheet) : rule));
  for (const { media } of [...document.styleSheets].flatMap(rules)) {
    if (media?.mediaText.includes('prefers-color-scheme')) media.mediaText = theme === 'dark' ? 'all' : 'not all';
  }
}

const i18n = new I18n({});
const sources = option('words').split(' ');

/** Only the words of the language that is wanted are loaded. */
async function speak(locale) {
  i18n.catalogues[locale] ??= (await import(sources.find((source) => source.includes(`words.${locale}.`)))).default;
  i18n.choose(locale);
}

meet(async (start) => {
  look(start);
  await speak(start.locale);
  const chat = new Conversation(start);
  const { title, greeting, mark } = start;
  render(html`<${Panel} chat=${chat} i18n=${i18n} title=${title} greeting=${greeting} draft=${mark.draft ?? ''} />`, document.body);

  addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !composing(event)) tell('close');
  });

  return {
    opened(now, focus) {
      chat.opened.value = now;
      if (now && focus) goOn({ focusVisible: false });
    },
    credentials: (token, guest_token) => chat.credentials(token, guest_token),
    later: () => chat.later(),
    relogin: () => chat.relogin(),
    context: (context) => chat.setContext(context),
    send: (file_type, msg) => chat.send(msg, file_type),
    locale: speak,
    reset: () => chat.reset(),
  };
});
