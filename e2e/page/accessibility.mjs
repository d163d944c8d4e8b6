// Can a page be used without seeing it: names of controls as the browser itself computes them, references, ids.

const NAMED_ROLES = new Set([
  'button',
  'checkbox',
  'combobox',
  'dialog',
  'DisclosureTriangle',
  'image',
  'img',
  'link',
  'listbox',
  'log',
  'option',
  'radio',
  'searchbox',
  'textbox',
]);

/** What is shown now: `{ names, faults }`, the names of all controls and what is wrong, in words. */
export async function inspect(page) {
  const { nodes } = await page.call('Accessibility.getFullAXTree');
  const controls = nodes
    .filter(({ ignored, role }) => !ignored && NAMED_ROLES.has(role.value))
    .map(({ role, name, backendDOMNodeId }) => ({
      role: role.value,
      name: name?.value.trim() ?? '',
      backendDOMNodeId,
    }));
  const faults = await page.ask(brokenMarkup);
  for (const { role, backendDOMNodeId } of controls.filter(({ name }) => name === '')) {
    const { outerHTML } = await page.call('DOM.getOuterHTML', { backendNodeId: backendDOMNodeId });
    faults.push(`a ${role} has no name: ${outerHTML.slice(0, 200)}`);
  }
  // A control whose role the browser does not see is one that a list of roles cannot find.
  const seen = controls.length;
  const there = await page.ask(reachableControls);
  if (seen < there) faults.push(`${there} controls can be reached, only ${seen} are in the accessibility tree`);
  return { names: controls.map(({ name }) => name), faults };
}

/** Runs in the page. */
function reachableControls() {
  const open = document.querySelector('dialog[open]') ?? document;
  return [...open.querySelectorAll('button, input, select, textarea, summary, a[href]')].filter(
    (element) =>
      element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }) && !element.closest('[inert]'),
  ).length;
}

/** Runs in the page. */
function brokenMarkup() {
  const faults = [];
  const tell = (element, what) => faults.push(`${what}: ${element.outerHTML.slice(0, 200)}`);
  const ids = new Set();
  for (const element of document.querySelectorAll('[id]')) {
    if (ids.has(element.id)) tell(element, 'an id stands twice');
    ids.add(element.id);
  }
  for (const attribute of ['for', 'aria-labelledby', 'aria-describedby', 'aria-controls', 'aria-activedescendant']) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      const missing = element
        .getAttribute(attribute)
        .split(/\s+/)
        .filter((id) => !ids.has(id));
      if (missing.length > 0) tell(element, `${attribute} points to nothing`);
    }
  }
  for (const element of document.querySelectorAll('[aria-hidden="true"]')) {
    const focusable = 'button, input, select, textarea, a[href], [tabindex]';
    if (element.matches(focusable) || element.querySelector(focusable)) tell(element, 'hidden, yet it takes the focus');
  }
  for (const element of document.querySelectorAll('[tabindex]')) {
    if (element.tabIndex > 0) tell(element, 'jumps the order of the Tab key');
  }
  for (const image of document.querySelectorAll('img:not([alt])')) tell(image, 'a picture without alt');
  if (!document.documentElement.lang) faults.push('the page does not name its language');
  if (!document.title.trim()) faults.push('the page has no title');
  return faults;
}
