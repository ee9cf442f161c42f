// Elements, numbers as text, and the tooltip. Every text reaches the page through textContent or setAttribute, so that
// nothing in a record can become markup.

const SVG = 'http://www.w3.org/2000/svg';
const NNBSP = '\u202f';
const MINUS = '\u2212';
const DASH = '\u2013';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'style') {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);
const sum = (values) => values.reduce((total, value) => total + (isNumber(value) ? value : 0), 0);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function decimals(value, digits) {
  if (!isNumber(value)) return DASH;
  const text = Math.abs(value).toLocaleString('en-US', {minimumFractionDigits: digits, maximumFractionDigits: digits});
  const isZero = !/[1-9]/.test(text);
  return (value < 0 && !isZero ? MINUS : '') + text;
}

const integer = (value) => decimals(value, 0);
const percent = (value, digits = 2) => isNumber(value) ? decimals(value, digits) + NNBSP + '%' : DASH;
const plural = (count, noun) =>
    `${Number.isInteger(count) ? integer(count) : significant(count)} ${noun}${count === 1 ? '' : 's'}`;

// Decimals that the multiples of `step` need.
function decimalsOf(step) {
  let digits = 0;
  while (digits < 6 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) ++digits;
  return digits;
}

function points(value) {
  if (!isNumber(value)) return DASH;
  const text = decimals(Math.abs(value), 2);
  if (!/[1-9]/.test(text)) return '\u00b10.00';
  return (value > 0 ? '+' : MINUS) + text;
}

function significant(value, digits = 3) {
  if (!isNumber(value)) return DASH;
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split('e');
    return `${Number(mantissa)}e${Number(exponent)}`.replaceAll('-', MINUS);
  }
  return decimals(value, clamp(digits - 1 - Math.floor(Math.log10(size)), 0, 6))
      .replace(/(\.\d*?)0+$/, '$1')
      .replace(/\.$/, '');
}

function bytes(value) {
  if (!isNumber(value)) return DASH;
  if (value < 1e3) return integer(value) + NNBSP + 'B';
  if (value < 99.95e3) return decimals(value / 1e3, 1) + NNBSP + 'kB';
  if (value < 999.5e3) return decimals(value / 1e3, 0) + NNBSP + 'kB';
  if (value < 999.5e6) return decimals(value / 1e6, 2) + NNBSP + 'MB';
  return decimals(value / 1e9, 2) + NNBSP + 'GB';
}

function duration(seconds) {
  if (!isNumber(seconds) || seconds < 0) return DASH;
  if (seconds < 59.95) return decimals(seconds, 1) + NNBSP + 's';
  const whole = Math.round(seconds);
  const two = (value) => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)}${NNBSP}min ${two(whole % 60)}${NNBSP}s`;
  return `${integer(Math.floor(whole / 3600))}${NNBSP}h ${two(Math.floor(whole % 3600 / 60))}${NNBSP}min`;
}

// Each kind of stage has a colour of its own; kinds that this page does not know share a neutral one.
const kindClass = (kind) => ['dense', 'sparse', 'qat'].includes(kind) ? `kind-${kind}` : 'kind-other';

const tip = (() => {
  const box = document.getElementById('tip');
  let owner = null;

  function place(x, y) {
    const gap = 14;
    const width = box.offsetWidth;
    const height = box.offsetHeight;
    const left = x + gap + width > window.innerWidth - 8 ? x - gap - width : x + gap;
    const top = y + gap + height > window.innerHeight - 8 ? y - gap - height : y + gap;
    box.style.left = `${clamp(left, 8, Math.max(8, window.innerWidth - width - 8))}px`;
    box.style.top = `${clamp(top, 8, Math.max(8, window.innerHeight - height - 8))}px`;
  }

  // content: {title, rows: [[label, value]]}
  function show(from, content, x, y) {
    owner = from;
    box.replaceChildren(
        h('div', {class: 'tip-title'}, content.title),
        h('dl', {}, content.rows.map(([label, value]) => [h('dt', {}, label), h('dd', {}, value)])));
    box.hidden = false;
    place(x, y);
  }

  function hide(from) {
    if (owner !== from) return;
    owner = null;
    box.hidden = true;
  }

  // Shows what `describe(target)` gives for the descendant of `root` that matches `selector` and is pointed at or
  // focused.
  function attach(root, selector, describe) {
    let current = null;
    const leave = () => {
      if (current) hide(current);
      current = null;
    };
    const enter = (target, x, y) => {
      const element = target instanceof Element ? target.closest(selector) : null;
      if (!element || !root.contains(element)) return leave();
      const content = describe(element);
      if (!content) return leave();
      current = element;
      show(element, content, x, y);
    };
    root.addEventListener('pointermove', (event) => enter(event.target, event.clientX, event.clientY));
    root.addEventListener('pointerdown', (event) => enter(event.target, event.clientX, event.clientY));
    root.addEventListener('pointerleave', leave);
    root.addEventListener('focusin', (event) => {
      const rect = event.target.getBoundingClientRect();
      if (event.target.matches(':focus-visible')) enter(event.target, rect.right, rect.bottom);
    });
    root.addEventListener('focusout', leave);
    window.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') leave();
    });
  }

  window.addEventListener('scroll', () => {
    if (owner) hide(owner);
  }, {passive: true});
  return {show, hide, attach};
})();
