
// The page: one function a section, each of which gives nothing where the record holds nothing for it.

const record = JSON.parse(document.getElementById('record').textContent);
const summary = record.summary;
const stages = record.stages;
const totalSteps = Math.max(0, ...stages.map((stage) => stage.first_step + stage.steps));
const weightsOf = (layer) => layer.shape.reduce((product, extent) => product * extent, 1);

const section = (id, title, lead, ...content) =>
    h('section', {class: 'card', id, 'aria-labelledby': `${id}-title`},
      h('div', {class: 'section-head'}, h('h2', {id: `${id}-title`}, title), lead && h('p', {class: 'lead'}, lead)),
      content);

function verdictBadge() {
  const looks = {
    accepted: ['good', '\u2713', 'Accepted'],
    finished: ['good', '\u2713', 'Finished'],
    rejected: ['bad', '\u2715', 'Rejected'],
    mismatched: ['bad', '\u2715', 'Verification failed'],
    unfinished: ['wait', '\u2026', 'Unfinished'],
  };
  const [look, icon, text] = looks[summary.verdict] || looks.unfinished;
  return h('span', {class: `badge ${look}`, id: 'verdict'}, h('span', {'aria-hidden': 'true'}, icon), text);
}

function verdictSentence() {
  const evaluated = record.runtime.samples > 0;
  const last = stages[stages.length - 1];
  const limit =
      record.accepted_drop >= 0 ? `the recipe allows a drop of ${decimals(record.accepted_drop, 2)} points` : null;
  switch (summary.verdict) {
    case 'mismatched':
      return `The runtime and the quantized model disagree on ${plural(record.runtime.mismatches, 'image')} of ${
          integer(record.runtime.samples)}: the artifact must not be used.`;
    case 'rejected':
      if (evaluated && isNumber(summary.accuracy_drop)) {
        return `The artifact lost ${decimals(summary.accuracy_drop, 2)} points against the dense model; ${
            limit || 'a limit of the recipe was passed'}.`;
      }
      return `The run stopped ${last ? `after stage ${last.name} ` : ''}because a limit of the recipe was passed.`;
    case 'unfinished':
      if (record.artifact.bytes > 0) return 'The artifact was written but has not been evaluated yet.';
      return last ? `No artifact yet: the last stage on record is ${last.name}.` : 'No stage has ended yet.';
    default: {
      const parts = [];
      if (isNumber(summary.accuracy_drop)) {
        const drop = summary.accuracy_drop;
        const text = decimals(Math.abs(drop), 2);
        parts.push(
            !/[1-9]/.test(text) ? 'as accurate as the dense model' :
                                  `${text} points ${drop > 0 ? 'below' : 'above'} the dense model`);
      }
      if (isNumber(summary.size_ratio) && summary.size_ratio > 0)
        parts.push(`${decimals(1 / summary.size_ratio, 1)}\u00d7 smaller than in fp32`);
      parts.push(`the same numbers as in training on all ${plural(record.runtime.samples, 'test image')}`);
      const text = parts.join(', ');
      return `${text[0].toUpperCase()}${text.slice(1)}${limit ? ` (${limit})` : ''}.`;
    }
  }
}

function tiles() {
  const tile = (label, value, detail, look) =>
      h('div', {class: `tile ${look || ''}`}, h('dt', {}, label),
        h('dd', {}, h('span', {class: 'value'}, value), detail && h('span', {class: 'detail'}, detail)));
  const list = [];
  const evaluated = record.runtime.samples > 0;
  const last = stages[stages.length - 1];
  if (evaluated) {
    list.push(tile('Accuracy, artifact', percent(record.runtime.accuracy), isNumber(summary.accuracy_drop) && [
      h('b', {}, points(-summary.accuracy_drop)), ` from dense ${percent(summary.reference_accuracy)}`
    ]));
  } else if (last) {
    list.push(tile('Accuracy so far', percent(last.accuracy), `after stage ${last.name}`));
  }
  if (record.artifact.bytes > 0) {
    list.push(tile(
        'Size', bytes(record.artifact.bytes),
        isNumber(summary.size_ratio) && [h('b', {}, `${decimals(summary.size_ratio, 3)}\u00d7`), ' of dense fp32']));
  }
  if (evaluated) {
    list.push(tile(
        'Mismatches', integer(record.runtime.mismatches), `with QAT, ${plural(record.runtime.samples, 'image')}`,
        record.runtime.mismatches > 0 ? 'bad' : ''));
  }
  if (isNumber(summary.zero_fraction)) {
    list.push(tile(
        'Weights that are zero', percent(100 * summary.zero_fraction, 1),
        `${integer(sum(record.layers.map((layer) => layer.zeros)))} of ${integer(sum(record.layers.map(weightsOf)))}`));
  } else if (last && last.sparsity > 0) {
    list.push(tile('Weights that are zero', percent(100 * last.sparsity, 1), `after stage ${last.name}`));
  }
  if (stages.length > 0) {
    list.push(tile(
        'Training', duration(sum(stages.map((stage) => stage.seconds))),
        `${plural(sum(stages.map((stage) => stage.epochs)), 'epoch')} in ${plural(stages.length, 'stage')}`));
  }
  return list.length > 0 && h('dl', {class: 'tiles'}, list);
}

function header() {
  const {pare, device, seed} = record.environment;
  const facts = [pare && `pare ${pare}`, device, seed !== undefined && `seed ${seed}`].filter(Boolean);
  return h(
      'header', {}, h('p', {class: 'overline'}, 'Run report', facts.map((fact) => [' \u00b7 ', fact])),
      h('div', {class: 'title-row'}, h('h1', {}, record.recipe || 'run'), verdictBadge()),
      h('p', {class: 'sentence'}, verdictSentence()), tiles());
}

function warnings() {
  if (record.warnings.length === 0) return null;
  return h(
      'section', {class: 'card warnings', id: 'warnings', 'aria-labelledby': 'warnings-title'},
      h('h2', {id: 'warnings-title'}, h('span', {class: 'warning-sign', 'aria-hidden': 'true'}, '!'),
        plural(record.warnings.length, 'warning')),
      h('ul', {}, record.warnings.map((warning) => h('li', {}, warning))));
}

function training() {
  const kinds = [
    {
      key: 'accuracy',
      title: 'Test accuracy',
      dots: true,
      ceiling: 100,
      format: (value) => percent(value),
      tick: (value, step) => `${decimals(value, decimalsOf(step))}%`
    },
    {
      key: 'loss',
      title: 'Training loss',
      log: true,
      smooth: true,
      fromZero: true,
      format: (value) => significant(value, 4),
      tick: (value, step) => step === null ? significant(value, 2) : decimals(value, decimalsOf(step))
    },
    {
      key: 'sparsity',
      title: 'Zeros in the weights',
      fromZero: true,
      format: (value) => percent(100 * value, 1),
      tick: (value, step) => `${decimals(100 * value, decimalsOf(100 * step))}%`
    },
    {
      key: 'lr',
      title: 'Learning rate',
      fromZero: true,
      format: (value) => significant(value),
      tick: (value) => significant(value, 3)
    },
  ];
  const named = new Set(kinds.map((kind) => kind.key));
  for (const key of Object.keys(record.series)) {
    if (!named.has(key))
      kinds.push({key, title: key, format: (value) => significant(value), tick: (value) => significant(value, 3)});
  }
  const panels =
      kinds.map((kind) => ({...kind, series: [...(record.series[kind.key] || [])].sort((a, b) => a[0] - b[0])}))
          .filter((panel) => panel.series.length > 0);
  if (panels.length === 0) return null;
  const lastStep = Math.max(1, totalSteps, ...panels.map((panel) => panel.series[panel.series.length - 1][0]));
  const accuracy = panels.find((panel) => panel.key === 'accuracy');
  if (accuracy) {
    if (record.runtime.samples > 0 && isNumber(record.runtime.accuracy)) {
      accuracy.end = {value: record.runtime.accuracy, label: `artifact, ${percent(record.runtime.accuracy)}`};
    }
    if (record.accepted_drop >= 0 && isNumber(summary.reference_accuracy)) {
      const value = summary.reference_accuracy - record.accepted_drop;
      accuracy.lines = [{value, label: `limit, ${percent(value)}`}];
    }
  }
  const bands = stages.map(
      (stage) =>
          ({name: stage.name, kind: stage.kind, begin: stage.first_step, end: stage.first_step + stage.steps, stage}));

  function describe(step) {
    const band = bands.filter((candidate) => candidate.begin < step || candidate.begin === 0).pop();
    const inside = band && step <= band.end;
    const rows = [];
    if (inside && band.stage.steps > 0 && band.stage.epochs > 0) {
      const epoch = clamp(Math.ceil((step - band.begin) / band.stage.steps * band.stage.epochs), 1, band.stage.epochs);
      rows.push(['epoch', `${significant(epoch)} of ${significant(band.stage.epochs)}`]);
    }
    for (const panel of panels) {
      const point = lastAtOrBefore(panel.series, step);
      if (point) rows.push([panel.title.toLowerCase(), panel.format(point[1])]);
    }
    return {
      title: [`Step ${integer(step)}`, inside && h('span', {class: `chip ${kindClass(band.kind)}`}, band.name)],
      rows
    };
  }

  return section(
      'training', 'Training',
      [
        `Over ${plural(lastStep, 'step')}; the bands are the stages.`,
        h('span', {class: 'screen'}, ' Point at a chart for its values, or focus it and use the arrow keys.')
      ],
      h('div', {class: panels.length > 1 ? 'panels' : 'panels single'}, stepCharts(panels, bands, lastStep, describe)));
}

// columns: [{label, cell(row, index), number: true|false, head: true for the row's name, look: class}]
// Roles are written out because narrow screens lay rows out as cards, and `display: block` takes them from a table.
function table(caption, columns, rows) {
  return h(
      'div', {class: 'table-holder'},
      h('table', {class: 'data', role: 'table'}, h('caption', {}, caption),
        h('thead', {role: 'rowgroup'},
          h('tr', {role: 'row'},
            columns.map(
                (column) =>
                    h('th', {scope: 'col', role: 'columnheader', class: column.number && 'number'}, column.label)))),
        h('tbody', {role: 'rowgroup'},
          rows.map((row, index) => h('tr', {role: 'row'}, columns.map((column) => {
                     const content = column.cell(row, index);
                     const empty = content === '' || content === null || content === undefined;
                     const attributes = {
                       class:
                           [column.number && 'number', column.look, empty && 'empty'].filter(Boolean).join(' ') || null,
                       'data-label': column.label
                     };
                     return column.head ? h('th', {...attributes, scope: 'row', role: 'rowheader'}, content) :
                                          h('td', {...attributes, role: 'cell'}, content);
                   }))))));
}

const meter = (fraction, look) =>
    h('span', {class: `meter ${look || ''}`, 'aria-hidden': 'true'},
      h('span', {style: {width: `${(100 * clamp(isNumber(fraction) ? fraction : 0, 0, 1)).toFixed(2)}%`}}));

function stageTable() {
  if (stages.length === 0) return null;
  const change = (stage, index) => index === 0 ? '' : points(stage.accuracy - stages[index - 1].accuracy);
  return section(
      'stages', 'Stages', null,
      table(
          'What each stage trained, and what was measured at its end',
          [
            {
              label: 'Stage',
              head: true,
              cell: (stage) =>
                  [h('span', {class: `chip ${kindClass(stage.kind)}`}, stage.name),
                   stage.name !== stage.kind && h('small', {}, ` ${stage.kind}`)]
            },
            {label: 'Accuracy', number: true, cell: (stage) => h('b', {}, percent(stage.accuracy))},
            {label: 'Change', number: true, cell: change},
            {label: 'Loss', number: true, cell: (stage) => significant(stage.loss, 4)},
            {label: 'Zeros', number: true, cell: (stage) => percent(100 * stage.sparsity, 1)},
            {label: 'Learning rate', number: true, cell: (stage) => significant(stage.lr)},
            {label: 'Epochs', number: true, cell: (stage) => significant(stage.epochs)},
            {label: 'Steps', number: true, cell: (stage) => integer(stage.steps)},
            {label: 'ms per step', number: true, cell: (stage) => decimals(stage.ms_per_step, 1)},
            {label: 'Time', number: true, cell: (stage) => duration(stage.seconds)},
          ],
          stages));
}

function layerTable() {
  const layers = record.layers;
  if (layers.length === 0) return null;
  const largest = Math.max(1, ...layers.map((layer) => layer.bytes));
  const fractionOf = (layer) => weightsOf(layer) > 0 ? layer.zeros / weightsOf(layer) : NaN;
  const sparse = layers.filter((layer) => layer.pattern !== 'dense').length;
  return section(
      'layers', 'Layers',
      `${plural(layers.length, 'layer')} with weights, ${integer(sparse)} of them with a sparsity pattern.`,
      table(
          'Weights, pattern and kernel of each layer',
          [
            {
              label: 'Layer',
              head: true,
              cell: (layer) => [h('span', {class: 'name'}, layer.name), h('small', {}, ` ${layer.op}`)]
            },
            {label: 'Shape', cell: (layer) => h('span', {class: 'code'}, layer.shape.join('\u00d7'))},
            {
              label: 'Pattern',
              cell: (layer) =>
                  h('span', {class: `pattern ${layer.pattern === 'dense' ? 'dense' : 'sparse'}`}, layer.pattern)
            },
            {
              label: 'Zeros',
              number: true,
              cell: (layer) => [h('span', {}, percent(100 * fractionOf(layer), 1)), meter(fractionOf(layer), 'zeros')]
            },
            {label: 'Scheme', cell: (layer) => layer.scheme || `${integer(layer.weight_bits)} bits`},
            {
              label: 'Bytes',
              number: true,
              cell: (layer) => [h('span', {}, integer(layer.bytes)), meter(layer.bytes / largest)]
            },
            {
              label: 'Kernel',
              look: 'kernel',
              cell: (layer) => layer.kernel && h('span', {class: 'code'}, layer.kernel)
            },
            {label: 'Note', look: 'wide', cell: (layer) => layer.note},
          ],
          layers));
}

function sizes() {
  const {bytes: artifact, dense_fp32_bytes: dense, path} = record.artifact;
  if (!(artifact > 0)) return null;
  const longest = Math.max(artifact, dense);
  const bar = (label, value, look) =>
      h('div', {class: 'size-row'}, h('dt', {}, label),
        h('dd', {},
          h('span', {class: 'size-track', 'aria-hidden': 'true'},
            h('span', {class: `size-bar ${look}`, style: {width: `${(100 * value / longest).toFixed(3)}%`}})),
          h('span', {class: 'size-value'}, bytes(value), h('small', {}, ` ${integer(value)} bytes`))));

  const parts =
      record.layers.filter((layer) => layer.bytes > 0).map((layer) => ({name: layer.name, bytes: layer.bytes}));
  const rest = artifact - sum(parts.map((part) => part.bytes));
  if (rest > 0 && parts.length > 0) parts.push({name: 'header and padding', bytes: rest, rest: true});
  parts.sort((a, b) => Number(Boolean(a.rest)) - Number(Boolean(b.rest)) || b.bytes - a.bytes);
  const whole = sum(parts.map((part) => part.bytes));
  const strip =
      h('div', {class: 'strip', 'aria-hidden': 'true'},
        parts.map(
            (part, index) =>
                h('span', {
                  class: part.rest ? 'rest' : '',
                  'data-index': String(index),
                  style: {'flex-grow': String(part.bytes / whole), '--shade': String(Math.min(index, 5))}
                },
                  part.bytes / whole > 0.14 && h('span', {}, part.name))));
  const share = (part) => percent(100 * part.bytes / whole, 1);
  tip.attach(strip, '[data-index]', (element) => {
    const part = parts[Number(element.dataset.index)];
    return {title: part.name, rows: [['bytes', integer(part.bytes)], ['of the artifact', share(part)]]};
  });
  return section(
      'sizes', 'Size', path && h('span', {class: 'code path'}, path),
      h('dl', {class: 'sizes'}, dense > 0 && bar('Dense fp32', dense, 'dense'), bar('Artifact', artifact, 'artifact')),
      parts.length > 1 && [
        h('h3', {}, 'Inside the artifact'), strip,
        h('ul', {class: 'strip-list'},
          parts.slice(0, 12).map(
              (part, index) =>
                  h('li', {},
                    h('span',
                      {class: part.rest ? 'swatch rest' : 'swatch', style: {'--shade': String(Math.min(index, 5))}}),
                    part.name, h('span', {class: 'muted'}, ` ${share(part)}`))),
          parts.length > 12 && h('li', {class: 'muted'}, `and ${integer(parts.length - 12)} more, in the table above`))
      ]);
}

function environment() {
  const entries = Object.entries(record.environment);
  if (entries.length === 0) return null;
  return section(
      'environment', 'Environment', null,
      h('dl', {class: 'facts'}, entries.map(([key, value]) => h('div', {}, h('dt', {}, key), h('dd', {}, value)))));
}

const footer = () =>
    h('footer', {},
      h('p', {}, 'Written by pare. Everything on this page is inside this file; the same numbers are in report.json.'));
