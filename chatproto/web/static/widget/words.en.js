// What the panel says, besides what all pages say. All languages have the same keys.

import shared from '../shared/words.en.js';

export default {
  ...shared,
  title: 'Chat',
  close: 'Close chat',
  end: 'End conversation',
  endAsk: 'End this conversation?',
  endYes: 'End it',
  hello: 'How can we help?',
  helloMore: 'Write to us. People answer here.',
  here: 'On line',
  away: 'We answer as soon as we can',
  over: 'This conversation has ended',
  off: 'Not connected',
  types: 'is typing…',
  place: 'You are number {count} in line.',
  nobody: 'Nobody is here right now. Write all the same: you get an answer as soon as somebody is back.',
  down: 'No connection. What you write is sent as soon as it is back.',
  shut: 'This conversation cannot be continued here.',
  joined: '{name} has joined',
  left: '{name} had to leave; somebody else will be with you',
  ended: 'The conversation has ended. Write to begin again.',
  drop: 'Drop files here to send them',
  looking: 'You are looking at',
  hide: 'Hide',
  rate: 'How was it?',
  stars: { one: '{count} star', other: '{count} stars' },
  rateMore: 'Anything to add? (optional)',
  later: 'Not now',
  thanks: 'Thank you!',
};
