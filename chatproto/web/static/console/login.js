// The form for name and password.

import { html, useRef, useState } from '../vendor/ui.js';
import { LanguageChoice } from './parts.js';
import { signIn } from './session.js';

export function Login({ i18n, trouble: first, onToken }) {
  const { t } = i18n;
  const form = useRef(null);
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState(first ? { trouble: first } : null);

  async function submit(event) {
    event.preventDefault();
    if (busy) return;
    const given = new FormData(form.current);
    setBusy(true);
    const answer = await signIn(given.get('name').trim(), given.get('password'));
    setBusy(false);
    if (answer.token) return onToken(answer.token);
    setTrouble(answer);
    form.current.elements.password.focus();
    form.current.elements.password.select();
  }

  return html`<main class="login">
    <form ref=${form} onSubmit=${submit}>
      <h1>${t('title')}</h1>
      <label>${t('name')}<input name="name" autocomplete="username" autocapitalize="none" required maxlength="200" autofocus /></label>
      <label>${t('password')}<input name="password" type="password" autocomplete="current-password" required maxlength="1024" /></label>
      <p class="trouble" role="alert">${trouble ? t(trouble.trouble, { count: trouble.count }) : ''}</p>
      <button class="button strong">${t(busy ? 'signingIn' : 'signIn')}</button>
    </form>
    <${LanguageChoice} i18n=${i18n} />
  </main>`;
}
