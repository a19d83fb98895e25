// The console: sign in, then the desk.

import { html, render, useEffect, useState } from '../vendor/ui.js';
import { Desk } from './desk.js';
import { keepFocus } from './focus.js';
import { ConsoleI18n } from './i18n.js';
import { News } from './news.js';
import { Login } from './login.js';
import { Room } from './room.js';
import { forgetToken, keepToken, keptToken, tokenAtStart, whenSignedOut } from './session.js';
import './icons.js';

const i18n = new ConsoleI18n();

const SIGNED_OUT = { '-31003': 'banned', '-31004': 'banned' };

function App({ token: first }) {
  const [token, setToken] = useState(first);
  const [trouble, setTrouble] = useState('');
  const [desk, setDesk] = useState(null);

  useEffect(() => {
    if (!token) return undefined;
    const made = new Desk(token, {
      token: keepToken,
      news: (what, entry, message) => news.tell(what, entry, message),
      closed: (by, code) => {
        if (by === 'left') keepToken(null);
        else forgetToken(made.token);
        setTrouble(by === 'left' ? '' : (SIGNED_OUT[code] ?? by));
        setDesk(null);
        setToken(by === 'refused' ? keptToken() : null); // a link with a bad token signs nobody out
      },
    });
    const news = new News(made, i18n);
    setDesk(made);
    const forget = whenSignedOut(() => made.connection.close());
    return () => {
      news.stop();
      forget();
    };
  }, [token]);

  useEffect(() => {
    document.title = desk ? document.title : i18n.t('title');
  }, [desk, i18n.locale.value]);

  if (!token) {
    return html`<${Login} i18n=${i18n} trouble=${trouble} onToken=${(fresh) => {
      keepToken(fresh);
      setToken(fresh);
    }} />`;
  }
  return desk && html`<${Room} desk=${desk} i18n=${i18n} />`;
}

keepFocus();
// A link with a token that is opened in the tab which shows the console already loads nothing by itself.
addEventListener('hashchange', () => location.hash.startsWith('#token=') && location.reload());
render(html`<${App} token=${tokenAtStart()} />`, document.getElementById('app'));
