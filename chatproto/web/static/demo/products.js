// What the demo shop sells, and what its one customer has ordered.

export const products = [
  {
    id: 'P-1041', image: 'img/lamp.svg', price: 129,
    title: { en: 'Ember pendant lamp', 'zh-CN': '暖烬吊灯' },
    text: { en: 'Hand-spun steel, warm light. Cable of 1.8 m, dimmable bulb included.', 'zh-CN': '手工旋压钢罩，暖色光。线长 1.8 米，附可调光灯泡。' },
  },
  {
    id: 'P-1077', image: 'img/chair.svg', price: 480,
    title: { en: 'Moss armchair', 'zh-CN': '苔绿单人沙发' },
    text: { en: 'Deep seat, wool cover, legs of oiled oak. Delivered assembled.', 'zh-CN': '深座羊毛面料，橡木油饰椅腿，整装送达。' },
  },
  {
    id: 'P-1102', image: 'img/teapot.svg', price: 64,
    title: { en: 'Night teapot, 1.1 l', 'zh-CN': '夜蓝茶壶 1.1 升' },
    text: { en: 'Glazed stoneware with a steel strainer. Keeps tea hot for an hour.', 'zh-CN': '上釉炻器，配不锈钢滤网，可保温一小时。' },
  },
  {
    id: 'P-1120', image: 'img/vase.svg', price: 58,
    title: { en: 'Field vase', 'zh-CN': '田野花瓶' },
    text: { en: 'Thrown by hand; no two are alike. Flowers are not included.', 'zh-CN': '手工拉坯，每只皆不相同。不含花材。' },
  },
  {
    id: 'P-1131', image: 'img/clock.svg', price: 92,
    title: { en: 'Quiet wall clock', 'zh-CN': '静音挂钟' },
    text: { en: 'Beech and glass, a movement that does not tick. One AA battery.', 'zh-CN': '榉木与玻璃，静音机芯，需一节五号电池。' },
  },
  {
    id: 'P-1158', image: 'img/mug.svg', price: 22,
    title: { en: 'Tide mug, 0.35 l', 'zh-CN': '潮汐马克杯 0.35 升' },
    text: { en: 'Dipped in two glazes. Dishwasher and microwave are fine.', 'zh-CN': '双色浸釉，可用洗碗机和微波炉。' },
  },
];

export const orders = [
  { id: '20261118-0042', status: 'sent', day: '2026-11-18', items: [['P-1041', 1], ['P-1158', 4]] },
  { id: '20261021-0007', status: 'delivered', day: '2026-10-21', items: [['P-1077', 1]] },
];

export const currency = 'EUR';

export const find = (id) => products.find((product) => product.id === id) || products[0];

export const total = ({ items }) => items.reduce((sum, [id, count]) => sum + find(id).price * count, 0);
