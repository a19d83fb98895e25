// What the panel says, besides what all pages say. All languages have the same keys.

import shared from '../shared/words.zh-CN.js';

export default {
  ...shared,
  title: '在线客服',
  close: '关闭客服窗口',
  end: '结束会话',
  endAsk: '确定结束本次会话吗？',
  endYes: '结束',
  hello: '有什么可以帮您？',
  helloMore: '请留言，人工客服在这里为您解答。',
  here: '在线',
  away: '我们会尽快回复您',
  over: '本次会话已结束',
  off: '未连接',
  types: '正在输入…',
  place: '您排在第 {count} 位，请稍候。',
  nobody: '客服暂时不在线。您可以先留言，客服上线后会尽快回复。',
  down: '网络已断开，恢复后会自动发送您的消息。',
  shut: '无法在此继续会话。',
  joined: '{name} 为您服务',
  left: '{name} 暂时离开，将由其他客服为您服务',
  ended: '会话已结束，发送消息可重新开始。',
  drop: '将文件拖到这里即可发送',
  looking: '您正在看',
  hide: '隐藏',
  rate: '您对本次服务满意吗？',
  stars: { other: '{count} 星' },
  rateMore: '还想说点什么？（选填）',
  later: '以后再说',
  thanks: '谢谢您的评价！',
};
