// Does everything fit the width of the screen.

/** What sticks out sideways now, in words; empty when all is well. */
export function overflow(page, width) {
  return page.ask(findOverflow, width);
}

/** Runs in the page. */
function findOverflow(width) {
  const faults = [];
  const root = document.documentElement;
  if (window.innerWidth !== width) faults.push(`the page is ${window.innerWidth} px wide on a screen of ${width} px`);
  if (root.scrollWidth > width) faults.push(`the page can be scrolled sideways, to ${root.scrollWidth} px`);
  for (const element of document.body.querySelectorAll('*')) {
    if (!element.checkVisibility({ visibilityProperty: true }) || element.closest('[inert], svg, .sr-only, .skip'))
      continue;
    const { left, right, width: its } = element.getBoundingClientRect();
    const name = `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ''}.${element.className}`;
    if (its > 1 && (left < -0.5 || right > width + 0.5)) {
      faults.push(`${name} reaches from ${Math.round(left)} to ${Math.round(right)} px`);
    }
    if (/auto|scroll/.test(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth) {
      faults.push(`${name} can be scrolled sideways`);
    }
  }
  return faults;
}
