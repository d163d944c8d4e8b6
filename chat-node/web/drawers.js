// On narrow screens the conversations and the people are drawers over the talk; here they open and close.

const NARROW = '(max-width: 760px)';
const MEDIUM = '(max-width: 1080px)';
const NAMES = ['sidebar', 'people'];

export class Drawers {
  #narrow = matchMedia(NARROW);
  #medium = matchMedia(MEDIUM);
  #open = '';
  #opener = null;

  constructor() {
    for (const name of NAMES) {
      byId(`open-${name}`).addEventListener('click', (event) => this.toggle(name, event.currentTarget));
    }
    byId('close-people').addEventListener('click', () => this.close());
    byId('backdrop').addEventListener('click', () => this.close());
    for (const query of [this.#narrow, this.#medium]) query.addEventListener('change', () => this.layOut());
  }

  get narrow() {
    return this.#narrow.matches;
  }

  get open() {
    return this.#open !== '';
  }

  toggle(name, opener) {
    if (this.#open === name) {
      this.close();
      return;
    }
    if (!this.#isDrawer(name)) {
      byId('room').toggleAttribute('data-people-hidden');
      this.layOut();
      return;
    }
    this.#open = name;
    this.#opener = opener;
    this.layOut();
    const drawer = byId(name);
    (drawer.querySelector('[aria-current]') ?? drawer.querySelector('button'))?.focus();
  }

  close() {
    if (this.#open === '') return;
    this.#open = '';
    this.layOut();
    this.#opener?.focus();
    this.#opener = null;
  }

  /** What is out of sight must be out of reach of the keyboard too. */
  layOut() {
    const room = byId('room');
    room.dataset.drawer = this.#open;
    byId('backdrop').hidden = this.#open === '';
    for (const name of NAMES) {
      const drawer = this.#isDrawer(name);
      const shown = drawer ? this.#open === name : name !== 'people' || !room.hasAttribute('data-people-hidden');
      byId(name).inert = !shown;
      byId(`open-${name}`).setAttribute('aria-expanded', String(shown));
    }
  }

  #isDrawer(name) {
    return name === 'sidebar' ? this.#narrow.matches : this.#medium.matches;
  }
}

function byId(id) {
  return document.getElementById(id);
}
