
// The sections in their order.

{
  const page = document.getElementById('page');
  page.replaceChildren();
  for (const part of [header, warnings, training, stageTable, layerTable, sizes, confusion, environment, footer]) {
    try {
      const content = part();
      if (content) page.append(content);
    } catch (error) {
      // A section that fails must not take the others with it, and must not fail in silence.
      page.append(
          h('p', {class: 'card failure', role: 'alert'},
            `The section "${part.name}" could not be drawn: ${error.message}`));
      console.error(error);
    }
  }
}
