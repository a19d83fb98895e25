// At the end: how was it?

import { html, useState } from '../vendor/ui.js';
import { Full, goOn } from '../shared/composer.js';
import { tracked } from './tracked.js';

const STAR = 'M12 2.6l2.9 6 6.5.9-4.7 4.6 1.1 6.5-5.8-3.1-5.8 3.1 1.1-6.5L2.6 9.5l6.5-.9z';
const MOST = 500;
const SCORES = [1, 2, 3, 4, 5];

/** Whoever has answered goes on writing. */
const leave = (form) => form || (document.querySelector('.rate :focus') && goOn());

export const Rating = tracked(function Rating({ chat, t }) {
  const [score, setScore] = useState(0);
  const [text, setText] = useState('');
  const how = chat.rating.value;
  if (!how) return null;
  if (how === 'thanks') return html`<p class="note" role="status">${t('thanks')}</p>`;
  return html`<section class="rate" ref=${leave} aria-label=${t('rate')}>
    <h2>${t('rate')}</h2>
    <div class="stars" role="radiogroup" aria-label=${t('rate')}>
      ${SCORES.map((count) => html`<label key=${count} class=${count <= score ? 'on' : ''}>
        <input type="radio" name="score" value=${count} checked=${count === score} aria-label=${t('stars', { count })}
          onChange=${() => setScore(count)} />
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d=${STAR} /></svg>
      </label>`)}
    </div>
    ${score > 0 && html`<textarea rows="2" maxlength=${MOST} placeholder=${t('rateMore')} aria-label=${t('rateMore')} value=${text}
      onInput=${(event) => setText(event.target.value)}></textarea>
      <${Full} t=${t} text=${text} most=${MOST} />`}
    <div>
      <button type="button" class="plain" onClick=${() => chat.rate(0)}>${t('later')}</button>
      ${score > 0 && html`<button type="button" class="strong" onClick=${() => chat.rate(score, text.trim())}>${t('send')}</button>`}
    </div>
  </section>`;
});
