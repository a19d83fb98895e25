// Icons, as paths on a grid of 24: drawn in the colour of the text around them. A page may add its own to PATHS.

import { html } from '../vendor/ui.js';

export const PATHS = {
  attach: 'M8 12.5 14.6 6a3 3 0 0 1 4.3 4.2l-8.5 8.6a5 5 0 0 1-7-7.1L11 4',
  box: 'M4 8l8-4 8 4v8l-8 4-8-4zM4 8l8 4 8-4M12 12v8',
  chat: 'M21 11.5a8.5 8.5 0 0 1-12.4 7.6L3 21l1.9-5.6A8.5 8.5 0 1 1 21 11.5z',
  checks: 'M2 13l4 4L15 7M11 16l1 1L22 7',
  close: 'M6 6l12 12M18 6L6 18',
  down: 'M6 9l6 6 6-6',
  file: 'M7 3h7l4 4v14H7zM14 3v5h4',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01',
  mic: 'M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5 11a7 7 0 0 0 14 0M12 18v3',
  out: 'M10 4H5v16h5M14 8l4 4-4 4M18 12H9',
  pause: 'M8 5v14M16 5v14',
  play: 'M7 4.5v15l12-7.5z',
  redo: 'M4 12a8 8 0 1 0 3-6.2M4 4v5h5',
  send: 'M4 12l16-8-6 16-3-7z',
  tag: 'M4 4h8l8 8-8 8-8-8zM8 8h.01',
  trash: 'M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13',
  video: 'M3 6h12v12H3zM15 10l6-3v10l-6-3',
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" width="20" height="20" fill="none" stroke="currentColor" stroke-width="1.8"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}

/** A button without words: its label is read out, and shown to a mouse. */
export function Tool({ icon, label, class: more = '', ...rest }) {
  return html`<button type="button" class=${`tool ${more}`} aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>`;
}
