// The words that all pages share, in all languages.

import en from './words.en.js';
import zh from './words.zh-CN.js';

export const WORDS = { en, 'zh-CN': zh };
