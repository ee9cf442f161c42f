
// Line charts over the global step. All panels share one horizontal axis and one cursor.

const PANEL = {
  height: 232,
  left: 50,
  right: 18,
  top: 26,
  bottom: 26
};

function niceStep(span, count) {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= raw * 0.999999);
}

function linearAxis(low, high, count) {
  const step = niceStep(high - low, count);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  const ticks = [];
  for (let i = first; i <= last; ++i) ticks.push(i * step);
  return {low: first * step, high: last * step, ticks, step, map: (value) => value};
}

function logAxis(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power) {
    for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** power);
  }
  const from = ticks.filter((tick) => tick <= low).pop() || low;
  const to = ticks.find((tick) => tick >= high) || high;
  let inside = ticks.filter((tick) => tick >= from && tick <= to);
  if (inside.length > 8)
    inside = inside.filter((tick) => /^1(e|$)/.test(tick.toExponential().replace(/^1\.0+e/, '1e')));
  return {low: from, high: to, ticks: inside, step: null, map: Math.log10};
}

function valueAxis(panel, values) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (panel.log && low > 0 && high / low > 8) return logAxis(low, high);
  if (panel.fromZero) low = Math.min(0, low);
  if (high - low < Math.max(1e-9, Math.abs(high) * 1e-6)) {
    const room = Math.abs(high) > 0 ? Math.abs(high) * 0.1 : 1;
    low = panel.fromZero && low >= 0 ? 0 : low - room;
    high += room;
  }
  const axis = linearAxis(low, high, 4);
  if (isNumber(panel.ceiling) && high <= panel.ceiling && axis.high > panel.ceiling) {
    axis.high = panel.ceiling;
    axis.ticks = axis.ticks.filter((tick) => tick <= panel.ceiling);
  }
  return axis;
}

// Not Math.min(...values): a long series would not fit on the stack.
function extremes(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return [low, high];
}

// Mean over the neighbours up to `half` points away on either side, never across the begin of a stage. Near such an end
// both sides shrink alike, so that a slope is not bent, but not below a quarter, so that noise does not come through.
function movingMean(series, half, boundaries) {
  const result = [];
  let begin = 0;
  while (begin < series.length) {
    const limit = boundaries.find((step) => step >= series[begin][0]);
    let end = begin;
    while (end < series.length && (limit === undefined || series[end][0] <= limit)) ++end;
    const totals = [0];
    const counts = [0];
    for (let i = begin; i < end; ++i) {
      const known = isNumber(series[i][1]);
      totals.push(totals[totals.length - 1] + (known ? series[i][1] : 0));
      counts.push(counts[counts.length - 1] + (known ? 1 : 0));
    }
    for (let i = begin; i < end; ++i) {
      const reach = Math.max(Math.min(half, i - begin, end - 1 - i), Math.ceil(half / 4));
      const from = Math.max(0, i - begin - reach);
      const to = Math.min(end - begin, i - begin + reach + 1);
      const count = counts[to] - counts[from];
      result.push([series[i][0], count > 0 ? (totals[to] - totals[from]) / count : null]);
    }
    begin = end;
  }
  return result;
}

// SVG path; values that are no numbers break the line. More than two points a pixel are drawn as their range.
function linePath(series, x, y, width, breaks) {
  let path = '';
  let open = false;
  const move = (px, py) => {
    path += `${open ? 'L' : 'M'}${px.toFixed(1)} ${py.toFixed(1)}`;
    open = true;
  };
  if (series.length <= 2 * width) {
    let previous = -Infinity;
    for (const [step, value] of series) {
      if (breaks.some((boundary) => previous <= boundary && boundary < step)) open = false;
      previous = step;
      if (isNumber(value))
        move(x(step), y(value));
      else
        open = false;
    }
    return path;
  }
  let column = null;
  let low = 0;
  let high = 0;
  for (const [step, value] of series) {
    if (!isNumber(value)) continue;
    const at = Math.round(x(step));
    if (at !== column) {
      if (column !== null) {
        move(column, y(high));
        move(column, y(low));
      }
      column = at;
      low = high = value;
    }
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (column !== null) {
    move(column, y(high));
    move(column, y(low));
  }
  return path;
}

// Index of the point whose step is nearest.
function nearestIndex(series, step) {
  let low = 0;
  let high = series.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (series[middle][0] < step)
      low = middle + 1;
    else
      high = middle;
  }
  return low > 0 && step - series[low - 1][0] <= series[low][0] - step ? low - 1 : low;
}

function lastAtOrBefore(series, step) {
  const at = nearestIndex(series, step);
  if (series[at][0] <= step) return series[at];
  return at > 0 ? series[at - 1] : null;
}

function shorten(text, width) {
  const fits = Math.floor((width - 8) / 7);
  if (text.length <= fits) return text;
  return fits >= 3 ? text.slice(0, fits - 1) + '\u2026' : '';
}

// panel: {key, title, series: [[step, value]], format, tick, log, fromZero, ceiling, smooth, dots,
//         lines: [{value, label}], end: {value, label}}
// stages: [{name, kind, begin, end}]
// describe(step): what the tooltip says about a step.
function stepCharts(panels, stages, lastStep, describe) {
  const drawn = [];

  function setCursor(step) {
    for (const chart of drawn) chart.cursor(step);
  }

  for (const panel of panels) {
    const known = panel.series.filter(([, value]) => isNumber(value));
    // A point stands at the step that it was measured after, so one at a boundary still belongs to the stage before it.
    const boundaries = stages.map((stage) => stage.begin).filter((step) => step > 0);
    const half = panel.smooth ? Math.floor(known.length / 120) : 0;
    const smooth = half > 0 ? movingMean(panel.series, half, boundaries) : null;
    const [low, high] = extremes(known.map(([, value]) => value));
    const axis = known.length > 0 && valueAxis(panel, [
                   low, high, ...(panel.lines || []).map((line) => line.value), ...(panel.end ? [panel.end.value] : [])
                 ]);

    const label = known.length === 0 ? `${panel.title}: no values` :
                                       `${panel.title}: ${plural(known.length, 'value')}, first ${
                                           panel.format(known[0][1])} at step ${integer(known[0][0])}, ` +
            `last ${panel.format(known[known.length - 1][1])} at step ${integer(known[known.length - 1][0])}, ` +
            `lowest ${panel.format(low)}, highest ${panel.format(high)}. ` +
            stages.map((stage) => `Stage ${stage.name} begins at step ${integer(stage.begin)}.`).join(' ');
    const svg = s('svg', {
      class: 'chart',
      role: 'img',
      'aria-label': label,
      tabindex: known.length > 0 && '0',
      id: `chart-${panel.key}`
    });
    const holder = h('div', {class: 'chart-holder'}, svg);
    const keys = [
      smooth && h('span', {class: 'key'}, h('span', {class: 'key-line'}), `mean of ${2 * half + 1} points`),
      smooth && h('span', {class: 'key'}, h('span', {class: 'key-line thin'}), 'each point'),
      panel.end && h('span', {class: 'key'}, h('span', {class: 'key-diamond'}), panel.end.label),
      (panel.lines || []).map((line) => h('span', {class: 'key'}, h('span', {class: 'key-line dashed'}), line.label)),
    ].flat().filter(Boolean);
    const chart = {
      figure:
          h('figure', {class: 'panel'},
            h('figcaption', {}, h('h3', {}, panel.title, axis && axis.step === null && h('small', {}, ' log scale')),
              keys.length > 0 && h('div', {class: 'keys'}, keys)),
            holder),
      cursor() {},
    };
    drawn.push(chart);

    let shownWidth = 0;
    function draw(width) {
      if (width < 80 || width === shownWidth) return;
      shownWidth = width;
      const {height, left, right, top, bottom} = PANEL;
      const plotWidth = width - left - right;
      const plotHeight = height - top - bottom;
      svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
      svg.replaceChildren();
      const x = (step) => left + clamp(step / lastStep, 0, 1) * plotWidth;

      for (const stage of stages) {
        const from = x(stage.begin);
        const to = Math.max(from, x(stage.end));
        const name = shorten(stage.name, to - from);
        svg.append(s(
            'g', {class: `band ${kindClass(stage.kind)}`}, s('title', {}, `stage ${stage.name}`),
            s('rect', {class: 'band-body', x: from, y: top, width: to - from, height: plotHeight}), s('rect', {
              class: 'band-head',
              x: from + (from > left ? 1 : 0),
              y: top - 20,
              width: Math.max(0, to - from - 1),
              height: 16,
              rx: 3
            }),
            name && s('text', {class: 'band-name', x: (from + to) / 2, y: top - 8.5, 'text-anchor': 'middle'}, name)));
        if (stage.begin > 0)
          svg.append(s('line', {class: 'boundary', x1: from, x2: from, y1: top - 4, y2: top + plotHeight}));
      }

      const xAxis = linearAxis(0, lastStep, clamp(Math.floor(plotWidth / 75), 3, 8));
      for (const tick of xAxis.ticks) {
        if (tick > lastStep * 1.000001 || !Number.isInteger(tick)) continue;
        const anchor = x(tick) > width - right - 12 ? 'end' : 'middle';
        svg.append(
            s('line', {class: 'tick', x1: x(tick), x2: x(tick), y1: top + plotHeight, y2: top + plotHeight + 4}),
            s('text',
              {class: 'axis', x: anchor === 'end' ? width - right + 4 : x(tick), y: height - 8, 'text-anchor': anchor},
              integer(tick)));
      }
      svg.append(s('line', {class: 'base', x1: left, x2: width - right, y1: top + plotHeight, y2: top + plotHeight}));

      if (!axis) {
        svg.append(
            s('text', {class: 'empty', x: left + plotWidth / 2, y: top + plotHeight / 2, 'text-anchor': 'middle'},
              'no values recorded'));
        return;
      }
      const from = axis.map(axis.low);
      const to = axis.map(axis.high);
      const y = (value) => top + plotHeight * (1 - (axis.map(value) - from) / (to - from));
      for (const tick of axis.ticks) {
        svg.append(
            s('line', {class: 'grid', x1: left, x2: width - right, y1: y(tick), y2: y(tick)}),
            s('text', {class: 'axis', x: left - 7, y: y(tick) + 3.5, 'text-anchor': 'end'},
              panel.tick(tick, axis.step)));
      }
      for (const line of panel.lines || []) {
        svg.append(s('line', {class: 'limit', x1: left, x2: width - right, y1: y(line.value), y2: y(line.value)}));
      }
      svg.append(s('path', {class: smooth ? 'line thin' : 'line', d: linePath(panel.series, x, y, plotWidth, [])}));
      if (smooth) svg.append(s('path', {class: 'line', d: linePath(smooth, x, y, plotWidth, boundaries)}));
      if (panel.dots || known.length === 1) {
        for (const [step, value] of known)
          svg.append(s('circle', {class: 'dot', cx: x(step), cy: y(value), r: known.length > 60 ? 1.5 : 2.75}));
      }
      if (panel.end) {
        const [ex, ey, r] = [x(lastStep), y(panel.end.value), 5.5];
        svg.append(
            s('path', {class: 'diamond', d: `M${ex} ${ey - r}L${ex + r} ${ey}L${ex} ${ey + r}L${ex - r} ${ey}Z`}));
      }

      const cursor =
          s('g', {class: 'cursor', visibility: 'hidden'}, s('line', {y1: top, y2: top + plotHeight}),
            s('circle', {r: 4}));
      const [rule, spot] = cursor.children;
      svg.append(cursor, s('rect', {class: 'catch', x: left, y: 0, width: plotWidth, height}));
      chart.cursor = (step) => {
        cursor.setAttribute('visibility', step === null ? 'hidden' : 'visible');
        if (step === null) return;
        const point = lastAtOrBefore(panel.series, step) || [step, null];
        rule.setAttribute('x1', x(step));
        rule.setAttribute('x2', x(step));
        spot.setAttribute('visibility', isNumber(point[1]) ? 'inherit' : 'hidden');
        if (!isNumber(point[1])) return;
        spot.setAttribute('cx', x(point[0]));
        spot.setAttribute('cy', y(point[1]));
      };
      chart.xOf = x;
      chart.stepAt = (px) => (px - left) / plotWidth * lastStep;
    }

    let index = 0;
    const showAt = (step, clientX, clientY) => {
      index = nearestIndex(panel.series, step);
      const at = panel.series[index][0];
      setCursor(at);
      tip.show(svg, describe(at), clientX, clientY);
    };
    const leave = () => {
      setCursor(null);
      tip.hide(svg);
    };
    if (axis) {
      const point = (event) => {
        const rect = svg.getBoundingClientRect();
        showAt(chart.stepAt((event.clientX - rect.left) * shownWidth / rect.width), event.clientX, event.clientY);
      };
      svg.addEventListener('pointermove', point);
      svg.addEventListener('pointerdown', point);
      svg.addEventListener('pointerleave', leave);
      svg.addEventListener('blur', leave);
      svg.addEventListener('keydown', (event) => {
        const stride = event.shiftKey ? Math.max(1, Math.round(panel.series.length / 20)) : 1;
        const moves = {ArrowRight: index + stride, ArrowLeft: index - stride, Home: 0, End: panel.series.length - 1};
        if (event.key === 'Escape') return leave();
        if (!(event.key in moves)) return;
        event.preventDefault();
        index = clamp(moves[event.key], 0, panel.series.length - 1);
        const rect = svg.getBoundingClientRect();
        const step = panel.series[index][0];
        showAt(step, rect.left + chart.xOf(step) * rect.width / shownWidth, rect.top + PANEL.top);
      });
    }
    new ResizeObserver((entries) => draw(Math.floor(entries[0].contentRect.width))).observe(holder);
  }
  return drawn.map((chart) => chart.figure);
}
