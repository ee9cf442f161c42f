
// The confusion section: heat map, most frequent mistakes, recall and precision.

// Beyond the first number cells carry no text; beyond the second they would be smaller than a pixel and the page slow.
const LABELLED_CLASSES = 24;
const DRAWN_CLASSES = 120;

// What the section needs from a confusion matrix; ragged rows count as filled up with 0.
function confusionFacts(rows, names) {
  const count = Math.max(rows.length, ...rows.map((row) => row.length));
  const indices = Array.from({length: count}, (unused, index) => index);
  const at = (truth, guess) => (rows[truth] || [])[guess] || 0;
  const truths = indices.map((truth) => sum(indices.map((guess) => at(truth, guess))));
  const guesses = indices.map((guess) => sum(indices.map((truth) => at(truth, guess))));
  const mistakes = [];
  for (const truth of indices) {
    for (const guess of indices) {
      if (truth !== guess && at(truth, guess) > 0) mistakes.push({truth, guess, images: at(truth, guess)});
    }
  }
  mistakes.sort((a, b) => b.images - a.images);
  return {
    count,
    indices,
    at,
    mistakes,
    total: sum(truths),
    right: sum(indices.map((index) => at(index, index))),
    name: (index) => names[index] || `class ${index}`,
    // NaN where there is nothing to take a share of.
    shareOfTruth: (truth, guess) => truths[truth] > 0 ? at(truth, guess) / truths[truth] : NaN,
    shareOfGuess: (truth, guess) => guesses[guess] > 0 ? at(truth, guess) / guesses[guess] : NaN,
  };
}

function confusionMatrix(facts) {
  const {count, indices, at, name, shareOfTruth, shareOfGuess} = facts;
  const labelled = count <= LABELLED_CLASSES;
  const worst =
      facts.mistakes.slice(0, 1000).reduce((most, {truth, guess}) => Math.max(most, shareOfTruth(truth, guess)), 0);
  // The square root lets rare mistakes be seen beside the frequent ones.
  const strengthOf = (truth, guess) => {
    if (at(truth, guess) <= 0) return 0;
    const share = shareOfTruth(truth, guess);
    return truth === guess ? 0.12 + 0.73 * share : 0.1 + 0.62 * Math.sqrt(Math.min(1, share / worst));
  };
  const cell = (truth, guess) => {
    const strength = strengthOf(truth, guess);
    const looks = [truth === guess ? 'hit' : 'miss'];
    if (at(truth, guess) === 0) looks.push('zero');
    if (strength > 0.57) looks.push(strength > 0.75 ? 'strong' : 'medium');
    const attributes = {
      class: looks.join(' '),
      'data-truth': String(truth),
      'data-guess': String(guess),
      style: {'--strength': strength.toFixed(3)},
    };
    return h('td', attributes, labelled ? integer(at(truth, guess)) : '');
  };
  const head = () => {
    const names = indices.map((guess) => h('th', {scope: 'col'}, h('span', {}, name(guess))));
    return h('thead', {}, h('tr', {}, h('td', {class: 'corner'}), names));
  };
  const row = (truth) => {
    const cells = indices.map((guess) => cell(truth, guess));
    return h('tr', {}, labelled && h('th', {scope: 'row'}, h('span', {}, name(truth))), cells);
  };
  const caption = 'Rows: the true class. Columns: what the runtime said. Colour: share of the row.';
  const look = {class: labelled ? 'matrix' : 'matrix dense', style: {'--classes': String(count)}};
  const matrix = h('table', look, h('caption', {}, caption), labelled && head(), h('tbody', {}, indices.map(row)));
  tip.attach(matrix, 'td[data-truth]', (element) => {
    const truth = Number(element.dataset.truth);
    const guess = Number(element.dataset.guess);
    const rows = [
      ['images', integer(at(truth, guess))],
      [`of all ${name(truth)}`, percent(100 * shareOfTruth(truth, guess), 1)],
      [`of all that were called ${name(guess)}`, percent(100 * shareOfGuess(truth, guess), 1)],
    ];
    return {title: truth === guess ? `${name(truth)}, recognized` : `${name(truth)} taken for ${name(guess)}`, rows};
  });
  const key = (kind, text) => h('span', {class: 'key'}, h('i', {class: kind}), text);
  return [
    matrix,
    h('div', {class: 'keys matrix-keys', 'aria-hidden': 'true'}, key('hit', 'recognized'), key('miss', 'mistaken'))
  ];
}

function frequentMistakes({mistakes, name}) {
  if (mistakes.length === 0) return null;
  const item = ({truth, guess, images}) =>
      h('li', {}, h('span', {}, name(truth), h('span', {class: 'muted'}, ' taken for '), name(guess)),
        h('span', {class: 'count'}, integer(images)), meter(images / mistakes[0].images, 'miss'));
  return [h('h3', {}, 'Most frequent mistakes'), h('ol', {class: 'mistakes'}, mistakes.slice(0, 6).map(item))];
}

function classTable({count, indices, name, shareOfTruth, shareOfGuess}) {
  const weakest = indices.filter((index) => !Number.isNaN(shareOfTruth(index, index)))
                      .sort((a, b) => shareOfTruth(a, a) - shareOfTruth(b, b))
                      .slice(0, LABELLED_CLASSES);
  const columns = [
    {label: 'Class', head: true, cell: (index) => h('span', {class: 'name'}, name(index))},
    {label: 'Recall', number: true, cell: (index) => percent(100 * shareOfTruth(index, index), 1)},
    {label: 'Precision', number: true, cell: (index) => percent(100 * shareOfGuess(index, index), 1)},
  ];
  return [
    h('h3', {}, count > LABELLED_CLASSES ? 'Weakest classes' : 'Classes, weakest first'),
    table('Recall and precision of the classes', columns, weakest)
  ];
}

function confusion() {
  if (record.confusion.length === 0) return null;
  const facts = confusionFacts(record.confusion, record.class_names);
  if (facts.total === 0) return null;
  const tooMany = `${integer(facts.count)} classes are too many to draw; report.json holds the matrix.`;
  const picture = facts.count <= DRAWN_CLASSES ? confusionMatrix(facts) : h('p', {class: 'muted'}, tooMany);
  const lead = `${plural(facts.total, 'test image')} through the runtime: ${integer(facts.right)} right, ` +
      `${integer(facts.total - facts.right)} wrong.`;
  return section(
      'confusion', 'Confusion', lead,
      h('div', {class: 'confusion'}, h('div', {class: 'matrix-holder'}, picture),
        h('div', {class: 'confusion-side'}, frequentMistakes(facts), classTable(facts))));
}
